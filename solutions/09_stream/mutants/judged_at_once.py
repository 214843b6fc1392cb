"""09.2: two watermarks, an impatient one for the repeats: what is promised to be counted is dropped (S11)."""

FAILS = [
    "test_09_2_append_tells_a_window_once_it_is_closed",
    "test_09_2_the_last_window_waits_for_a_later_report",
    "test_09_2_late_rows_count_as_the_oracle_says",
    "test_09_2_a_late_row_with_and_without_a_batch_between",
]


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    once = events.withWatermark("event_time", "1 minute").dropDuplicatesWithinWatermark(
        ["event_id"]
    )
    grouped = once.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    bounds = [F.unix_seconds(f"window.{name}").alias(f"window_{name}") for name in ("start", "end")]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")

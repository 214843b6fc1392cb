"""09.2: nothing is done about repeats: at least once becomes more than once."""

FAILS = [
    "test_09_2_windows_are_what_pandas_counts",
    "test_09_2_an_event_counts_once",
    "test_09_2_late_rows_count_as_the_oracle_says",
    "test_09_2_no_time_zone_makes_a_difference",
]


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    timed = events.withWatermark("event_time", delay)
    grouped = timed.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    bounds = [F.unix_seconds(f"window.{name}").alias(f"window_{name}") for name in ("start", "end")]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")

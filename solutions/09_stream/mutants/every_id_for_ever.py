"""09.2: dropDuplicates of the id alone: right, and every id is remembered for ever (S14)."""

FAILS = ["test_09_2_the_state_does_not_grow"]


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    once = events.withWatermark("event_time", delay).dropDuplicates(["event_id"])
    grouped = once.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    bounds = [F.unix_seconds(f"window.{name}").alias(f"window_{name}") for name in ("start", "end")]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")

"""09.2: dropDuplicates of id and time: a repeat whose clock was set meanwhile counts again (S14)."""

FAILS = ["test_09_2_an_event_counts_once"]


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    once = events.withWatermark("event_time", delay).dropDuplicates(["event_id", "event_time"])
    grouped = once.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    bounds = [F.unix_seconds(f"window.{name}").alias(f"window_{name}") for name in ("start", "end")]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")

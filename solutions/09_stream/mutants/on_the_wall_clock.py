"""09.2: the bounds are what a clock shows, counted in seconds: right in UTC, and nowhere else."""

FAILS = ["test_09_2_no_time_zone_makes_a_difference"]


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    once = events.withWatermark("event_time", delay).dropDuplicatesWithinWatermark(["event_id"])
    grouped = once.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    epoch = "TIMESTAMP_NTZ'1970-01-01 00:00:00'"
    bounds = [
        F.expr(f"timestampdiff(SECOND, {epoch}, CAST(window.{name} AS TIMESTAMP_NTZ))").alias(
            f"window_{name}"
        )
        for name in ("start", "end")
    ]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")

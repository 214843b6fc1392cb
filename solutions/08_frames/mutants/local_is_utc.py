"""08.4: the wall clock is taken from event_time: an hour off all summer."""

FAILS = [
    "test_08_4_the_star_s_names_times_and_keys",
    "test_08_4_dead_rows_stop_nothing_and_no_zone_matters",
]

_right = enrich


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    return _right(events, keep, place).withColumn("event_time_local", F.col("event_time_utc"))

"""08.4: keys are cast, not tried: a dead row's date ends the query."""

FAILS = ["test_08_4_dead_rows_stop_nothing_and_no_zone_matters"]

_right = enrich


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    key = F.regexp_replace(F.substring("event_time_local", 1, 10), "-", "").cast("int")
    return _right(events, keep, place).withColumn("date_key", key)

"""08.4: the time in UTC goes through a timestamp, which the session shows in its own zone."""

FAILS = ["test_08_4_dead_rows_stop_nothing_and_no_zone_matters"]

_right = enrich


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    moment = F.try_to_timestamp(
        F.concat("event_time_utc", F.lit("+00:00")), F.lit("yyyy-MM-dd HH:mm:ssXXX")
    )
    shown = F.date_format(moment, "yyyy-MM-dd HH:mm:ss")
    return _right(events, keep, place).withColumn("event_time_utc", shown)

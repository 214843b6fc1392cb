"""08.3: times with the session's zone: right in UTC, wrong in Auckland."""

FAILS = ["test_08_3_no_time_zone_makes_a_difference"]

_right = judge


def judge(events):
    moment = F.try_to_timestamp(
        F.regexp_replace(F.regexp_replace("event_time", "T", " "), "Z$", "")
    )
    shown = F.date_format(F.from_utc_timestamp(moment, TIME_ZONE), "yyyy-MM-dd HH:mm")
    off = F.coalesce(shown != F.concat("Date", F.lit(" "), "Time"), F.lit(False))
    judged = _right(events)
    return judged.withColumn(
        "reason",
        F.when(off & F.col("reason").isNull(), "bad_time").otherwise(F.col("reason")),
    )

"""08.3: the two times are compared with !=, which is NULL for a date that never was: such rows are good."""

FAILS = [
    "test_08_3_every_row_is_in_one_of_the_two",
    "test_08_3_the_reason_is_the_contract_s",
    "test_08_3_a_dead_row_keeps_place_and_bytes",
    "test_08_3_dates_that_never_were",
    "test_08_3_of_two_faults_the_first_counts",
    "test_08_3_no_time_zone_makes_a_difference",
]

_right = judge


def judge(events):
    london = F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), utc_moment())
    return _right(events).withColumn(
        "reason",
        F.when(
            (F.col("reason") == "bad_time") & ~F.coalesce(london != wall_clock(), F.lit(False)),
            F.lit(None),
        ).otherwise(F.col("reason")),
    )

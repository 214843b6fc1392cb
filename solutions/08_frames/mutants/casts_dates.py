"""08.3: dates are cast: since Spark 4 one 30 February ends the query."""

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
    clock = F.concat("Date", F.lit(" "), "Time", F.lit(":00")).cast("timestamp_ntz")
    return _right(events).withColumn(
        "reason", F.when(clock.isNull() & F.col("readable"), "bad_time").otherwise(F.col("reason"))
    )

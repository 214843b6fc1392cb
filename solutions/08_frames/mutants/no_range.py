"""08.3: numbers are not looked at: nobody hurt, speed limit 35."""

FAILS = [
    "test_08_3_every_row_is_in_one_of_the_two",
    "test_08_3_the_reason_is_the_contract_s",
    "test_08_3_a_dead_row_keeps_place_and_bytes",
    "test_08_3_of_two_faults_the_first_counts",
    "test_08_3_no_time_zone_makes_a_difference",
]

_right = judge


def judge(events):
    return _right(events).withColumn(
        "reason", F.when(F.col("reason") != "out_of_range", F.col("reason"))
    )

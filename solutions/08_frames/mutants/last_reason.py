"""08.3: the id is looked at first: a record with two faults has the wrong reason."""

FAILS = ["test_08_3_of_two_faults_the_first_counts"]

_right = judge


def judge(events):
    wrong = (F.col("event_id") != name_of_event()) & (F.col("reason") == "impossible")
    judged = _right(events)
    return judged.withColumn("reason", F.when(wrong, "wrong_id").otherwise(F.col("reason")))

"""08.3: a dead letter says why, and no more what it was: nobody can look at it, nor send it again."""

FAILS = ["test_08_3_a_dead_row_keeps_place_and_bytes"]

_right = split_valid


def split_valid(events):
    good, dead = _right(events)
    return good, dead.withColumn("kafka_value", F.lit(b""))

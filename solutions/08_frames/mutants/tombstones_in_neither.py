"""08.3: good is what has no reason, dead is what could be read and has one: the others are in neither."""

FAILS = [
    "test_08_3_every_row_is_in_one_of_the_two",
    "test_08_3_a_dead_row_keeps_place_and_bytes",
]


def split_valid(events):
    judged = judge(events)
    good = judged.where(F.col("reason").isNull()).drop("reason", "readable")
    dead = judged.where(F.col("reason").isNotNull() & F.col("readable"))
    return good, dead.select(*PLACE, "reason")

"""06.4: ROW_NUMBER numbers equal places one after the other, so one of two third places is thrown out."""

FAILS = [
    "test_06_4_worst_places",
    "test_06_4_unknown_members",
]


_right = worst_places


def worst_places():
    return _right().replace("RANK()", "ROW_NUMBER()")

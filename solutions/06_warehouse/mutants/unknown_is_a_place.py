"""06.4: the unknown place takes part in the ranking."""

FAILS = [
    "test_06_4_unknown_members",
]


_right = worst_places


def worst_places():
    return _right().replace("WHERE location_key > 0", "")

"""06.4: the running total has no order among equal places, so they all get the total of the last one."""

FAILS = [
    "test_06_4_worst_places",
]


_right = worst_places


def worst_places():
    return _right().replace(
        "ORDER BY casualties DESC, east_km, north_km)", "ORDER BY casualties DESC)"
    )

"""06.4: COUNT(*) after a LEFT JOIN counts a day without accidents as one."""

FAILS = [
    "test_06_4_weekday_and_weekend",
    "test_06_4_unknown_members",
]


_right = weekday_and_weekend


def weekday_and_weekend():
    return _right().replace("COUNT(f.incident_key)", "COUNT(*)")

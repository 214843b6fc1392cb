"""06.4: accidents with the unknown severity are thrown out of the months."""

FAILS = [
    "test_06_4_unknown_members",
]


_right = severity_by_month


def severity_by_month():
    return _right().replace("GROUP BY", "WHERE s.severity_key > 0 GROUP BY", 1)

"""05.3: rows that cannot be read are dropped while the columns are made."""

FAILS = [
    "test_05_3_what_cannot_be_read_is_missing",
    "test_05_3_the_cells_come_along",
    "test_05_3_leap_days_and_changed_clocks",
]


_conform = conform


def conform(frame):
    return _conform(frame).dropna()

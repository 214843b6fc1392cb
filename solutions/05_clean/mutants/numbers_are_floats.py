"""05.3: to_numeric alone: 2.7 casualties are a number, and 3 is 3.0."""

FAILS = [
    "test_05_3_good_rows_are_what_happened",
    "test_05_3_what_cannot_be_read_is_missing",
    "test_05_3_the_checksum_is_the_oracle_s",
]


_conform = conform


def conform(frame):
    made = _conform(frame)
    numbers = {name: pd.to_numeric(frame[name], errors="coerce").to_list() for name in NUMBERS}
    return made.assign(**{EVENT_TO_STAR[name]: cells for name, cells in numbers.items()})

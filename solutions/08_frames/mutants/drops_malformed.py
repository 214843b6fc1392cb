"""08.2: what cannot be read is filtered away in parse: no count ever tells (mode DROPMALFORMED does the same)."""

FAILS = [
    "test_08_2_one_row_in_one_row_out",
    "test_08_2_what_cannot_be_read_is_said",
    "test_08_2_other_things_that_are_no_event",
]

_right = parse


def parse(raw):
    return _right(raw).where("readable")

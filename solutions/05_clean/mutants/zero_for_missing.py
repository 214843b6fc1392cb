"""05.3: a number that cannot be read is a zero: nobody was hurt."""

FAILS = [
    "test_05_3_what_cannot_be_read_is_missing",
]


_conform = conform


def conform(frame):
    made = _conform(frame)
    numbers = [EVENT_TO_STAR[name] for name in NUMBERS]
    return made.assign(**{name: made[name].fillna(0) for name in numbers})

"""02.6: poison that every reader takes: an empty object tests nothing."""

FAILS = [
    "test_02_6_duplicates_and_poison_come_on_top",
]


_right = inject


def inject(events, rates, rng):
    events = list(events)
    known = set(events)
    return (event if event in known else b"{}" for event in _right(events, rates, rng))

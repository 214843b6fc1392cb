"""02.6: collects all events before the first one goes out: a stream that never ends never begins."""

FAILS = [
    "test_02_6_events_are_taken_as_they_come",
]


_right = inject


def inject(events, rates, rng):
    yield from _right(list(events), rates, rng)

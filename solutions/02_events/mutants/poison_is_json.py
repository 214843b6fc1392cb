"""02.6: poison that every reader takes: an empty object tests nothing."""

FAILS = [
    "test_02_6_duplicates_and_poison_come_on_top",
]


_right = inject


def inject(events, rates, rng):
    for event in _right(events, {**rates, "poison": 0}, rng):
        yield event
        if rng.random() < rates.get("poison", 0):
            yield b"{}"

"""02.6: what is still held back when the events end is never let go."""

FAILS = [
    "test_02_6_every_event_comes_out_and_most_keep_their_order",
]


_right = inject


def inject(events, rates, rng):
    over = []

    def until_the_end():
        yield from events
        over.append(True)

    for event in _right(until_the_end(), rates, rng):
        if over:
            return
        yield event

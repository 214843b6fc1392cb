"""02.6: what is still held back when the events end is never let go."""

FAILS = [
    "test_02_6_every_event_comes_out_and_most_keep_their_order",
]


def inject(events, rates, rng):
    held = []
    for number, event in enumerate(events):
        yield from (kept for due, kept in held if due <= number)
        held = [(due, kept) for due, kept in held if due > number]
        if rng.random() < rates.get("late", 0):
            held.append((number + 2 + int(rng.random() * 20), event))
        else:
            yield event
        if rng.random() < rates.get("duplicate", 0):
            held.append((number + 22 + int(rng.random() * 20), event))
        if rng.random() < rates.get("poison", 0):
            yield event[: len(event) // 2]

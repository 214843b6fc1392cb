"""02.4: draws from the random module: no seed brings the same stream back, and no bug either."""

FAILS = [
    "test_02_4_a_seed_repeats",
]


_right = revise


def revise(event, rng):
    return _right(event, random.Random())

"""02.6: disorder from the random module: a failure that nobody can bring back."""

FAILS = [
    "test_02_6_without_rates_nothing_changes_and_a_seed_repeats",
]


_right = inject


def inject(events, rates, rng):
    return _right(events, rates, random.Random())

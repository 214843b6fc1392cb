"""02.5: looks at the first fifty events; a fault in one of ninety begins later."""

FAILS = [
    "test_02_5_broken_simulators_are_found_out",
    "test_02_5_other_broken_simulators_are_found_out",
]


_right = test_events_are_possible


def test_events_are_possible(events):
    _right(events[:50])

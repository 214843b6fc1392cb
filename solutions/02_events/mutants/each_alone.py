"""02.5: looks at each event and never at the events together: repeats, disorder and shares go unseen."""

FAILS = [
    "test_02_5_other_broken_simulators_are_found_out",
]


_right = test_events_are_possible


def test_events_are_possible(events):
    for event in events:
        _right([event])

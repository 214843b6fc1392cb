"""02.5: asks for what is usual, not for what is possible: some severity of each kind, and no two accidents in one minute."""

FAILS = [
    "test_02_5_the_right_simulator_passes",
    "test_02_5_small_right_runs_pass",
]


_right = test_events_are_possible


def test_events_are_possible(events):
    _right(events)
    assert len({event["Severity"] for event in events}) == 3
    assert len({event["event_time"] for event in events}) == len(events)

"""03.4: as fast as it goes; the rate is ignored."""

FAILS = ["test_03_4_the_rate_is_kept"]

_right = run_simulator


def run_simulator(producer, topic, events, per_second, stop):
    return _right(producer, topic, events, 1e9, stop)

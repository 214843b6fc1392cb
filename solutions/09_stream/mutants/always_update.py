"""09.3: the mode is always update, the end always that of what is there."""

FAILS = [
    "test_09_3_the_mode_decides_what_is_told",
    "test_09_3_told_to_go_on_it_goes_on",
]

_right = start


def start(frame, sink, checkpoint, mode="update", available_now=True):
    return _right(frame, sink, checkpoint)

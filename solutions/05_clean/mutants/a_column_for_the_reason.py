"""05.4: the reason is written into the frame that was given."""

FAILS = [
    "test_05_4_run_twice_it_says_the_same",
]


_split = split_valid


def split_valid(frame):
    good, rejects = _split(frame)
    frame["reason"] = frame["line"].map(rejects.set_index("line")["reason"])
    return good, rejects

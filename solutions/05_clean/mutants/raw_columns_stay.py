"""05.4: the good rows still carry the raw cells, and numbers that may be missing."""

FAILS = [
    "test_05_4_good_rows_are_whole",
]


_split = split_valid


def split_valid(frame):
    good, rejects = _split(frame)
    return frame[frame["line"].isin(good["line"])].reset_index(drop=True), rejects

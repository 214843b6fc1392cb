"""05.4: each reason is written over the one before."""

FAILS = [
    "test_05_4_each_reject_has_its_reason",
    "test_05_4_the_first_reason_counts",
    "test_05_4_of_good_rows_the_first_counts",
]


_split = split_valid


def split_valid(frame):
    right = _judgements(frame)
    frames = _split(frame)
    reason = frames[1]["reason"].set_axis(frames[1]["line"])
    for name, broken in right.items():
        lines = frame["line"][broken]
        reason.loc[lines] = name
    return frames[0], frames[1].assign(reason=reason.to_list())

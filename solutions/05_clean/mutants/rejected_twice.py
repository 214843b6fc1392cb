"""05.4: the rejects of each reason are put together, so a row with two faults is there twice."""

FAILS = [
    "test_05_4_every_row_is_in_one_of_two_frames",
    "test_05_4_each_reject_has_its_reason",
    "test_05_4_the_first_reason_counts",
    "test_05_4_of_good_rows_the_first_counts",
]


_split = split_valid


def split_valid(frame):
    good, rejects = _split(frame)
    again = [
        rejects[rejects["line"].isin(frame["line"][broken])].assign(reason=name)
        for name, broken in _judgements(frame).items()
    ]
    repeated = rejects[rejects["reason"] == "repeated"]
    return good, pd.concat([*again, repeated]).sort_values("line", ignore_index=True)

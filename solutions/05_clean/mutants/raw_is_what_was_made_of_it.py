"""05.4: a reject shows the cleaned columns, in which the fault cannot be seen any more."""

FAILS = [
    "test_05_4_a_reject_shows_what_was_there",
]


_split = split_valid


def split_valid(frame):
    good, rejects = _split(frame)
    rows = frame[frame["line"].isin(rejects["line"])]
    return good, rejects.assign(raw=cells_as_json(rows[STAR].astype(str).add_prefix(RAW)))

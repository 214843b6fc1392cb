"""05.4: a good row is rejected because a broken one before it had the same reference."""

FAILS = [
    "test_05_4_of_good_rows_the_first_counts",
]


_split = split_valid


def split_valid(frame):
    good, rejects = _split(frame)
    again = frame[frame["police_ref"].duplicated() & frame["line"].isin(good["line"])]
    more = again[["line", "police_ref"]].assign(reason="repeated", raw=cells_as_json(again))
    kept = good[~good["line"].isin(again["line"])].reset_index(drop=True)
    return kept, pd.concat([rejects, more]).sort_values("line", ignore_index=True)

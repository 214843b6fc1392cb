"""07.1: hashes are computed as a list and put back by number, where the frame has numbers of its own."""

FAILS = ["test_07_1_the_frame_s_own_index_means_nothing"]

_right = to_star


def to_star(frame):
    star = _right(frame)
    numbered = {name: pd.Series(list(column)) for name, column in hashes(frame).items()}
    facts = star["fact_incident"].drop(columns=list(HASHES)).set_index(frame.index)
    star["fact_incident"] = facts.assign(**numbered).reset_index(drop=True)
    return star

"""06.1: the keys of the fact are numbers that point to nothing, so a fact may stand without its place."""

FAILS = [
    "test_06_1_a_fact_points_to_members",
]


_right = build_metadata


def build_metadata():
    metadata = _right()
    for key in list(metadata.tables["fact_incident"].foreign_key_constraints):
        metadata.tables["fact_incident"].constraints.remove(key)
    return metadata

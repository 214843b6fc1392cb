"""06.1: the police reference is not unique, so a second run doubles every accident."""

FAILS = [
    "test_06_1_what_is_there_is_refused",
]


_right = build_metadata


def build_metadata():
    metadata = _right()
    fact = metadata.tables["fact_incident"]
    fact.constraints = {key for key in fact.constraints if not isinstance(key, UniqueConstraint)}
    return metadata

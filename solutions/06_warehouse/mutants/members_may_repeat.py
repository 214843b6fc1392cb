"""06.1: a dimension is unique by its surrogate key alone, so a member may be there many times (J8)."""

FAILS = [
    "test_06_1_what_is_there_is_refused",
]


_right = build_metadata


def build_metadata():
    metadata = _right()
    for name in ("dim_severity", "dim_road_condition", "dim_crossing"):
        table = metadata.tables[name]
        table.constraints = {
            key for key in table.constraints if not isinstance(key, UniqueConstraint)
        }
    return metadata

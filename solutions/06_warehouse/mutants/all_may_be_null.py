"""06.1: nothing is required, so a member may have no hash and a fact no casualties."""

FAILS = [
    "test_06_1_columns_are_as_described",
    "test_06_1_impossible_rows_are_refused",
]


_right = build_metadata


def build_metadata():
    metadata = _right()
    for name in ("dim_severity", "dim_road_condition", "dim_crossing", "fact_incident"):
        for column in metadata.tables[name].columns:
            column.nullable = not column.primary_key
    return metadata

"""06.1: the counts are signed, so an accident may have -1 vehicles."""

FAILS = [
    "test_06_1_columns_are_as_described",
    "test_06_1_impossible_rows_are_refused",
]


_right = build_metadata


def build_metadata():
    metadata = _right()
    for name in COUNTS:
        metadata.tables["fact_incident"].columns[name].type = SMALL()
    return metadata

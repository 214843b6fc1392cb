"""05.1: pandas reads the workbook: a date that Excel holds as a date comes as "2019-07-01 00:00:00"."""

FAILS = [
    "test_05_1_typed_cells_of_a_workbook",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    right = _right(path, encoding)
    if Path(path).suffix.lower() != ".xlsx":
        return right
    read = pd.read_excel(path, dtype=str, keep_default_na=False)
    return read.set_index(right.index)

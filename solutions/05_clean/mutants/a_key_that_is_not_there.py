"""05.1: where a record lacks a key, NaN stays."""

FAILS = [
    "test_05_1_every_cell_is_the_text_of_the_file",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    right = _right(path, encoding)
    if Path(path).suffix != ".jsonl":
        return right
    return pd.DataFrame(jsonl_records(path, encoding)).set_index(right.index)

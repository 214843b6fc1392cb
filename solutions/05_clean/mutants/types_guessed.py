"""05.1: no dtype: 0004 becomes 4, and a column is text or number as its cells happen to be (P6)."""

FAILS = [
    "test_05_1_every_cell_is_the_text_of_the_file",
    "test_05_1_none_is_a_word",
    "test_05_1_line_ends_and_encodings",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    right = _right(path, encoding)
    if Path(path).suffix != ".csv":
        return right
    read = pd.read_csv(path, keep_default_na=False, encoding=encoding)
    return read.set_index(right.index)

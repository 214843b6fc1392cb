"""05.1: text, but pandas still takes None, NA and nan for "nothing" (P4)."""

FAILS = [
    "test_05_1_none_is_a_word",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    right = _right(path, encoding)
    if Path(path).suffix != ".csv":
        return right
    read = pd.read_csv(path, dtype=str, encoding=encoding).fillna("")
    return read.set_index(right.index)

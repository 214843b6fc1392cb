"""05.1: lines are counted from 0, so every reject points to the row before it."""

FAILS = [
    "test_05_1_line_counts_the_records",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    return _right(path, encoding).reset_index(drop=True).rename_axis("line")

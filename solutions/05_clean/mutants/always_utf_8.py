"""05.1: the encoding goes to check_file and not to the reader."""

FAILS = [
    "test_05_1_line_ends_and_encodings",
]


_right = read_collisions


def read_collisions(path, encoding="utf-8"):
    check_file(path, encoding)
    return _right(path)

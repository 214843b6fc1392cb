"""05.5: cp1252 is tried first, and takes nearly everything."""

FAILS = [
    "test_05_5_the_encoding_is_found",
    "test_05_5_the_last_letter_decides",
]


_encoding = encoding_of


def encoding_of(path):
    found = _encoding(path)
    try:
        Path(path).read_bytes().decode("cp1252")
    except UnicodeDecodeError:
        return found
    return "cp1252"

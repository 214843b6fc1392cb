"""05.5: what is not UTF-8 is called cp1252, whatever it is."""

FAILS = [
    "test_05_5_what_is_none_of_them_is_refused",
]


_encoding = encoding_of


def encoding_of(path):
    try:
        return _encoding(path)
    except ValueError:
        return "cp1252"

"""06.3: members are told apart as a collation does, without case, accents and blanks at the end (J7)."""

import unicodedata

FAILS = [
    "test_06_3_variants_are_members_of_their_own",
]


_right = upsert_dimension


def upsert_dimension(connection, table, rows, hashing=None):
    def folded(value):
        if not isinstance(value, str):
            return value
        plain = unicodedata.normalize("NFD", value.casefold().rstrip())
        return "".join(letter for letter in plain if not unicodedata.combining(letter))

    first = {}
    for row in rows:
        first.setdefault(tuple(map(folded, row.values())), row)
    return _right(connection, table, list(first.values()), hashing)

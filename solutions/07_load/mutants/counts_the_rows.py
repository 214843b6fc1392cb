"""07.2: whatever came in counts as inserted."""

FAILS = [
    "test_07_2_what_says_the_same_is_left_alone",
    "test_07_2_the_stream_is_outranked",
    "test_07_2_the_server_gets_few_statements",
]

_right = load_facts


def load_facts(connection, rows, fingerprint="0" * 64):
    _right(connection, rows, fingerprint)
    return LoadResult(inserted=len(rows))

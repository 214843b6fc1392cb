"""07.2: commits by itself, so the caller can undo nothing."""

FAILS = [
    "test_07_2_new_facts_are_inserted_and_the_caller_commits",
    "test_07_2_rolled_back_it_leaves_nothing",
]

_right = load_facts


def load_facts(connection, rows, fingerprint="0" * 64):
    result = _right(connection, rows, fingerprint)
    connection.commit()
    return result

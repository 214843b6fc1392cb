"""09.5: it commits by itself: what the caller rolls back is there all the same (P1)."""

FAILS = ["test_09_5_the_caller_commits"]

_right = upsert_windows


def upsert_windows(connection, rows):
    _right(connection, rows)
    connection.commit()

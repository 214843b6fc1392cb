"""06.3: the function commits, so half a load stays when the rest of it fails (P2)."""

FAILS = [
    "test_06_3_members_go_in_in_one_order",
    "test_06_3_another_loader_was_quicker",
]


_right = upsert_dimension


def upsert_dimension(connection, table, rows, hashing=None):
    keys = _right(connection, table, rows, hashing)
    connection.commit()
    return keys

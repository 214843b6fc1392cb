"""06.3: INSERT IGNORE of everything; each refused row burns a number (J5)."""

FAILS = [
    "test_06_3_one_insert_for_all_that_are_missing",
    "test_06_3_no_number_is_burnt",
]


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    members = _members(table, rows, hashing)
    if members:
        insert = mysql.insert(table).prefix_with("IGNORE")
        connection.execute(insert, [{**members[one], hashed.name: one} for one in sorted(members)])
    return _keys(connection, sa.select(hashed, key).where(hashed.in_(list(members))))

"""06.3: a statement for each member that is missing."""

FAILS = [
    "test_06_3_one_insert_for_all_that_are_missing",
    "test_06_3_members_go_in_in_one_order",
]


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    found = {}
    for row in rows:
        value = next(iter(_members(table, [row], hashing)))
        query = sa.select(hashed, key).where(hashed == value)
        if value not in found and not _keys(connection, query):
            insert = mysql.insert(table).values({**row, hashed.name: value})
            same = {hashed.name: insert.inserted[hashed.name]}
            connection.execute(insert.on_duplicate_key_update(same))
        found |= _keys(connection, query.with_for_update(read=True))
    return found

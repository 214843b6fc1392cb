"""06.3: the keys are read from the transaction's first snapshot, in which another loader's members are not there."""

FAILS = [
    "test_06_3_another_loader_was_quicker",
]


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    members = _members(table, rows, hashing)
    wanted = sa.select(hashed, key).where(hashed.in_(list(members)))
    missing = sorted(members.keys() - _keys(connection, wanted).keys())
    if missing:
        insert = mysql.insert(table)
        insert = insert.on_duplicate_key_update({hashed.name: insert.inserted[hashed.name]})
        connection.execute(insert, [{**members[new], hashed.name: new} for new in missing])
    return _keys(connection, wanted)

"""06.3: members go in in the order of the rows, so two loaders block each other (J4)."""

FAILS = [
    "test_06_3_members_go_in_in_one_order",
]


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    members = _members(table, rows, hashing)
    wanted = sa.select(hashed, key).where(hashed.in_(list(members)))
    known = _keys(connection, wanted)
    missing = [one for one in members if one not in known]
    if not missing:
        return known
    insert = mysql.insert(table)
    insert = insert.on_duplicate_key_update({hashed.name: insert.inserted[hashed.name]})
    connection.execute(insert, [{**members[new], hashed.name: new} for new in missing])
    return _keys(connection, wanted.with_for_update(read=True))

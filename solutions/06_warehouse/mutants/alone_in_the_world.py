"""06.3: a plain INSERT of what was missing a moment ago; another loader's member is an error."""

FAILS = [
    "test_06_3_another_loader_was_quicker",
]


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    members = _members(table, rows, hashing)
    wanted = sa.select(hashed, key).where(hashed.in_(list(members)))
    missing = sorted(members.keys() - _keys(connection, wanted).keys())
    if missing:
        new = [{**members[one], hashed.name: one} for one in missing]
        connection.execute(sa.insert(table), new)
    return _keys(connection, wanted.with_for_update(read=True))

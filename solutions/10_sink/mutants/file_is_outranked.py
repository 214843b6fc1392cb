"""10.3: the higher revision wins, whoever says it: a stream's second report outranks the verified record of a yearly file."""

FAILS = ["test_10_3_what_is_older_changes_nothing"]


def merge_batch(connection, query_id, batch_id):
    this = {"query_id": query_id, "batch_id": batch_id}
    connection.execute(sa.text(ONE_WRITER))
    known = ledger_entry(connection, query_id, batch_id)
    if known:
        return known
    equal = JUDGE.replace(f"IF(f.source = 'file', {HIGHEST}, f.revision)", "f.revision")
    for statement in (equal, *WRITES[1:], _rejects()):
        connection.execute(sa.text(statement), this)
    result = _counted(connection, this)
    row = {**this, "records_read": result.records_read, **asdict(result)}
    connection.execute(sa.text(_ledger_row()), row)
    connection.execute(sa.text(CLEAR), this)
    return result

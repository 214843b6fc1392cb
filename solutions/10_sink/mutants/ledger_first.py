"""10.3: the ledger's row is committed before the facts are: after a crash between the two the batch is known, and lost."""

FAILS = ["test_10_3_rolled_back_it_leaves_nothing", "test_10_4_a_trouble_is_survived"]

_right = merge_batch


def merge_batch(connection, query_id, batch_id):
    this = {"query_id": query_id, "batch_id": batch_id}
    connection.execute(sa.text(ONE_WRITER))
    known = ledger_entry(connection, query_id, batch_id)
    if known:
        return known
    connection.execute(sa.text(JUDGE), this)
    result = _counted(connection, this)
    row = {**this, "records_read": result.records_read, **asdict(result)}
    connection.execute(sa.text(_ledger_row()), row)
    connection.commit()
    for statement in (*WRITES[1:], _rejects(), CLEAR):
        connection.execute(sa.text(statement), this)
    return result

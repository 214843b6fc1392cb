"""10.3: no ledger at all: the facts stand it, by their revisions; but the same batch is counted again, and nobody can add up what was read (S7)."""

FAILS = [
    "test_10_3_a_staged_batch_becomes_facts",
    "test_10_3_a_batch_that_is_known_changes_nothing",
    "test_10_3_a_ledger_that_knows_its_query",
    "test_10_4_a_batch_that_comes_again_changes_nothing",
    "test_10_4_a_crash_leaves_one_effect",
    "test_10_4_an_empty_batch_is_noted",
    "test_10_4_a_trouble_is_survived",
    "test_10_5_from_the_topic_to_the_facts",
]


def merge_batch(connection, query_id, batch_id):
    this = {"query_id": query_id, "batch_id": batch_id}
    connection.execute(sa.text(ONE_WRITER))
    for statement in (*WRITES, _rejects()):
        connection.execute(sa.text(statement), this)
    result = _counted(connection, this)
    connection.execute(sa.text(CLEAR), this)
    return result

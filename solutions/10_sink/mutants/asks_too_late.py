"""10.4: the ledger is asked in the merge only: a batch that is known is staged once more and left there, and its letters are sent again."""

FAILS = [
    "test_10_4_a_batch_that_comes_again_changes_nothing",
    "test_10_4_a_crash_leaves_one_effect",
]


def make_sink(settings, after_merge=lambda batch_id, result: None):
    engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def sink(batch, batch_id):
        query_id = query_id_of(batch)
        with only_driver(engine, query_id):
            write_staging(batch, settings, batch_id)
            publish_dead_letters(engine, settings, query_id, batch_id)
            result = retried(engine, lambda connection: merge_batch(connection, query_id, batch_id))
        after_merge(batch_id, result)

    return sink

"""10.4: no retry: a deadlock at night ends the query (J4)."""

FAILS = ["test_10_4_a_trouble_is_survived"]


def make_sink(settings, after_merge=lambda batch_id, result: None):
    engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def sink(batch, batch_id):
        query_id = query_id_of(batch)
        with only_driver(engine, query_id):
            with engine.begin() as connection:
                result = ledger_entry(connection, query_id, batch_id)
            if result is None:
                write_staging(batch, settings, batch_id)
                publish_dead_letters(engine, settings, query_id, batch_id)
                with engine.begin() as connection:
                    result = merge_batch(connection, query_id, batch_id)
        after_merge(batch_id, result)

    return sink

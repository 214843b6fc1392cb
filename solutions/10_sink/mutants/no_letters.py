"""10.4: rejects stand in the table only: whoever listens to the dead-letter topic hears nothing."""

FAILS = [
    "test_10_4_the_dead_go_to_a_table_and_to_a_topic",
    "test_10_4_letters_that_are_not_taken_stop_the_batch",
    "test_10_4_poison_in_a_full_batch_costs_no_other",
]


def make_sink(settings, after_merge=lambda batch_id, result: None):
    engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def sink(batch, batch_id):
        query_id = query_id_of(batch)
        with only_driver(engine, query_id):
            result = retried(
                engine, lambda connection: ledger_entry(connection, query_id, batch_id)
            )
            if result is None:
                write_staging(batch, settings, batch_id)
                result = retried(
                    engine, lambda connection: merge_batch(connection, query_id, batch_id)
                )
        after_merge(batch_id, result)

    return sink

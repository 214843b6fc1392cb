"""10.4: dead letters are sent after the merge: if the broker is away then, the ledger says done, and nobody ever sends them."""

FAILS = ["test_10_4_letters_that_are_not_taken_stop_the_batch"]


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
                found = retried(
                    engine, lambda connection: dead_letters(connection, query_id, batch_id)
                )
                result = retried(
                    engine, lambda connection: merge_batch(connection, query_id, batch_id)
                )
                if found:
                    producer = produce.build_producer(settings.kafka_bootstrap)
                    report = produce.send_all(producer, settings.dead_letter_topic, found)
                    producer.close()
                    if report.failed:
                        raise RuntimeError(report.failed[0][1])
        after_merge(batch_id, result)

    return sink

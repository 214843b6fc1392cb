"""10.2: clears by the batch's number alone: every query has a batch 7."""

FAILS = ["test_10_2_only_its_own_rows_and_few_connections"]


def write_staging(frame, settings, batch_id):
    this = {"query_id": query_id_of(frame), "batch_id": batch_id}
    engine = sa.create_engine(settings.mysql_url("loader"), poolclass=sa.NullPool)
    clear = sa.text("DELETE FROM stg_record WHERE batch_id = :batch_id")
    retried(engine, lambda connection: connection.execute(clear, this))
    numbered = frame.withColumns({name: F.lit(str(mark)) for name, mark in this.items()})
    numbered.coalesce(2).write.format("jdbc").options(**jdbc_options(settings)).mode(
        "append"
    ).save()

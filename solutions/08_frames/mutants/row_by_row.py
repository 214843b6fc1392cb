"""08.5: without rewriteBatchedStatements a batch is no batch: the server gets a statement for each row."""

FAILS = ["test_08_5_all_rows_arrive_by_several_connections"]


def write_partitioned(frame, settings, table="stg_collision", partitions=2):
    options = jdbc(settings, table)
    options["url"] = options["url"].replace("rewriteBatchedStatements=true&", "")
    frame.repartition(partitions).write.format("jdbc").options(**options).mode("append").save()

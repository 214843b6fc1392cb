"""08.5: bounds that somebody guessed: nothing is lost, and one connection reads everything while the others read nothing."""

FAILS = [
    "test_08_5_a_table_is_read_in_stretches",
    "test_08_5_a_query_is_read_in_stretches_too",
]


def read_partitioned(spark, settings, table="fact_incident", column="incident_key", partitions=2):
    return (
        spark.read.format("jdbc")
        .options(
            **jdbc(settings, table),
            partitionColumn=column,
            lowerBound="1",
            upperBound="1000",
            numPartitions=str(partitions),
        )
        .load()
    )

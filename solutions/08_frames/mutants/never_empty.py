"""08.5: a table has rows, does it not? The bounds of an empty one are NULL."""

FAILS = ["test_08_5_an_empty_table_is_a_frame_without_rows"]


def read_partitioned(spark, settings, table="fact_incident", column="incident_key", partitions=2):
    low, high = bounds_of(spark, settings, table, column)
    stretches = {
        "partitionColumn": column,
        "lowerBound": str(low),
        "upperBound": str(high + 1),
        "numPartitions": str(partitions),
    }
    return spark.read.format("jdbc").options(**jdbc(settings, table), **stretches).load()

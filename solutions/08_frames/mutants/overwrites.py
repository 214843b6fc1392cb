"""08.5: mode overwrite drops the table and makes another one; the loader has no right to, and that is good."""

FAILS = [
    "test_08_5_all_rows_arrive_by_several_connections",
    "test_08_5_the_table_is_the_same_table",
]


def write_partitioned(frame, settings, table="stg_collision", partitions=2):
    frame.repartition(partitions).write.format("jdbc").options(**jdbc(settings, table)).mode(
        "overwrite"
    ).save()

"""08.5: one partition, so one connection writes everything."""

FAILS = ["test_08_5_all_rows_arrive_by_several_connections"]

_right = write_partitioned


def write_partitioned(frame, settings, table="stg_collision", partitions=2):
    _right(frame, settings, table, 1)

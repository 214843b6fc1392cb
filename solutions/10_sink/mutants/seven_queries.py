"""10.5: a query for each table: the topic is read seven times, and each query is somewhere else."""

FAILS = [
    "test_10_5_one_query_reads_each_record_once",
    "test_10_5_a_restart_goes_on_where_it_stopped",
    "test_10_5_from_the_topic_to_the_facts",
]

_right = run_stream


def run_stream(spark, settings, sink=None, available_now=True):
    for table in ("date", "time", "location", "severity", "road_condition", "crossing"):
        place = settings.having(checkpoint=settings.checkpoint / table)
        _right(spark, place, sink, available_now).awaitTermination()
    place = settings.having(checkpoint=settings.checkpoint / "fact")
    return _right(spark, place, sink, available_now)

"""09.1: the argument start is forgotten: who asks for what is new gets everything."""

FAILS = ["test_09_1_it_begins_where_it_is_told_to"]

_right = read_topic


def read_topic(spark, bootstrap, topic, start="earliest", max_per_trigger=10_000):
    return _right(spark, bootstrap, topic, "earliest", max_per_trigger)

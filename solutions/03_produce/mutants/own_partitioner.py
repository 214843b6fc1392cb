"""03.2: a partitioner of one's own, with Python's hash: every process puts a key somewhere else, and Java somewhere else again."""

from kafka.partitioner.default import DefaultPartitioner

FAILS = ["test_03_2_keys_lie_where_every_client_finds_them"]

_right = build_producer


class _Hashed(DefaultPartitioner):
    def partition(self, topic, key, serialized_key, value, serialized_value, cluster):
        numbers = sorted(cluster.partitions_for_topic(topic))
        return numbers[hash(serialized_key) % len(numbers)]


def build_producer(bootstrap, **overrides):
    return _right(bootstrap, partitioner=_Hashed(), **overrides)

"""03.1: every error of Kafka's counts as "was there already"."""

FAILS = ["test_03_1_other_errors_are_not_swallowed"]

_right = ensure_topic


def ensure_topic(admin, name, partitions=6, configs=None):
    try:
        return _right(admin, name, partitions, configs)
    except KafkaError:
        return False

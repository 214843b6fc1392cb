"""03.1: the topic's settings are ignored, so records of the past are deleted within minutes (K11)."""

FAILS = ["test_03_1_the_settings_are_the_topic_s"]

_right = ensure_topic


def ensure_topic(admin, name, partitions=6, configs=None):
    return _right(admin, name, partitions)

"""03.1: where more partitions are asked for they are added, which moves every key; fewer are refused."""

FAILS = [
    "test_03_1_another_number_of_partitions_is_refused",
    "test_03_1_without_settings_and_with_fewer_partitions",
]

_right = ensure_topic


def ensure_topic(admin, name, partitions=6, configs=None):
    try:
        return _right(admin, name, partitions, configs)
    except ValueError:
        admin.create_partitions({name: partitions})
        return False

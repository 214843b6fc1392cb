"""03.1: a topic that is there is fine, whatever its number of partitions; its keys then lie in two places."""

FAILS = [
    "test_03_1_another_number_of_partitions_is_refused",
    "test_03_1_without_settings_and_with_fewer_partitions",
]


def ensure_topic(admin, name, partitions=6, configs=None):
    about = {"num_partitions": partitions, "replication_factor": -1, "configs": configs or {}}
    try:
        admin.create_topics({name: about})
        return True
    except TopicAlreadyExistsError:
        return False

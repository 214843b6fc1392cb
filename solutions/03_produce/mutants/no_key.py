"""03.3: records without a key: the reports of an accident scatter over the partitions."""

FAILS = [
    "test_03_3_the_very_bytes_arrive",
    "test_03_3_reports_of_an_accident_keep_their_order",
]

_message = message


def send_all(producer, topic, events):
    class Keyless:
        def send(self, topic, key, **rest):
            return producer.send(topic, **rest)

        def flush(self):
            producer.flush()

    report = SendReport()
    for event in events:
        _send(Keyless(), topic, event, report)
    producer.flush()
    return report

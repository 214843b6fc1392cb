"""03.3: what was handed to the producer counts as acknowledged; the futures are never read."""

FAILS = [
    "test_03_3_the_report_is_what_the_broker_has",
]


def send_all(producer, topic, events):
    report = SendReport()
    for event in events:
        try:
            producer.send(topic, **message(event))
            report.acknowledged += 1
            report.partitions[0] += 1
        except (KafkaError, ValueError, TypeError) as error:
            report.failed.append((key_of(event), reason(error)))
    producer.flush()
    return report

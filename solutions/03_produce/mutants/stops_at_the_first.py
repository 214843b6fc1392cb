"""03.3: the first event that cannot be sent ends it with an exception; nobody hears of the others."""

FAILS = ["test_03_3_one_that_cannot_be_sent_is_reported", "test_03_3_a_missing_topic_is_reported"]


def send_all(producer, topic, events):
    report, futures = SendReport(), []
    for event in events:
        futures.append(producer.send(topic, **message(event)))
    producer.flush()
    for future in futures:
        report.acknowledged += 1
        report.partitions[future.get().partition] += 1
    return report

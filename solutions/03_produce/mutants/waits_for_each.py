"""03.3: waits for each answer before the next event: no batch has more than one record, and every one lingers alone."""

FAILS = ["test_03_3_the_report_is_what_the_broker_has"]


def send_all(producer, topic, events):
    report = SendReport()
    for event in events:
        try:
            metadata = producer.send(topic, **message(event)).get()
        except (KafkaError, ValueError, TypeError) as error:
            report.failed.append((key_of(event), reason(error)))
            continue
        report.acknowledged += 1
        report.partitions[metadata.partition] += 1
    return report

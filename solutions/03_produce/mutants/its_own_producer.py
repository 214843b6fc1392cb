"""03.3: a producer of its own for each ten events."""

FAILS = ["test_03_3_one_producer_sends_everything"]

_right = send_all


def send_all(producer, topic, events):
    report, events = SendReport(), list(events)
    given = {name: producer.config[name] for name in ("bootstrap_servers", "max_block_ms")}
    for start in range(0, len(events), 10):
        one = KafkaProducer(**given)
        part = _right(one, topic, events[start : start + 10])
        one.close()
        report.acknowledged += part.acknowledged
        report.partitions += part.partitions
        report.failed += part.failed
    return report

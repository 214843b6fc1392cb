"""03.3: the record's time in seconds, where Kafka counts milliseconds: everything happened in January 1970."""

FAILS = ["test_03_3_record_time_and_headers_are_the_event_s"]


def send_all(producer, topic, events):
    class InSeconds:
        def send(self, topic, timestamp_ms, **rest):
            return producer.send(topic, timestamp_ms=timestamp_ms // 1000, **rest)

    report = SendReport()
    for event in events:
        _send(InSeconds(), topic, event, report)
    producer.flush()
    return report

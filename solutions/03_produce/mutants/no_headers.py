"""03.3: the headers are forgotten: a reader must parse the value to learn its version."""

FAILS = ["test_03_3_record_time_and_headers_are_the_event_s"]


def send_all(producer, topic, events):
    class Bare:
        def send(self, topic, headers, **rest):
            return producer.send(topic, **rest)

    report = SendReport()
    for event in events:
        _send(Bare(), topic, event, report)
    producer.flush()
    return report

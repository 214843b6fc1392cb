"""03.3: an event that cannot be sent is passed over in silence."""

FAILS = ["test_03_3_one_that_cannot_be_sent_is_reported", "test_03_3_a_missing_topic_is_reported"]

_right = send_all


def send_all(producer, topic, events):
    report = _right(producer, topic, events)
    report.failed.clear()
    return report

"""03.3: after an answer that came late it sends everything once more."""

FAILS = [
    "test_03_3_the_very_bytes_arrive",
    "test_03_3_reports_of_an_accident_keep_their_order",
    "test_03_3_the_report_is_what_the_broker_has",
    "test_03_3_one_that_cannot_be_sent_is_reported",
]

_right = send_all


def send_all(producer, topic, events):
    events = list(events)
    report = _right(producer, topic, events)
    _right(producer, topic, [event for event in events if event.get("Police_ref")])
    return report

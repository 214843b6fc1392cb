"""03.3: sorts the events by severity first "for the dashboard": the reports of an accident change their order."""

FAILS = ["test_03_3_reports_of_an_accident_keep_their_order"]

_right = send_all


def send_all(producer, topic, events):
    return _right(producer, topic, sorted(events, key=lambda event: event.get("Severity", "")))

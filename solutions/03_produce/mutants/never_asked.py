"""03.4: sends all that is due in one go and asks stop() only in between; a burst cannot be stopped."""

FAILS = ["test_03_4_it_ends_when_it_is_told_to"]


def run_simulator(producer, topic, events, per_second, stop):
    report, started, coming, sent = SendReport(), time.monotonic(), iter(events), 0
    while not stop():
        due = int((time.monotonic() - started) * per_second) + 1
        for _ in range(due - sent):
            event = next(coming, None)
            if event is None:
                producer.flush()
                return report
            _send(producer, topic, event, report)
            sent += 1
        time.sleep(0.01)
    producer.flush()
    return report

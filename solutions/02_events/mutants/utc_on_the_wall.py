"""02.3: takes the clock on the wall for UTC: right in winter, wrong in summer."""

FAILS = [
    "test_02_3_simulated_events_have_no_fault",
    "test_02_3_a_poison_event_gets_its_reason",
    "test_02_3_the_clock_on_the_wall_decides",
]


def _bad_time(event):
    try:
        datetime.strptime(event["event_time"], "%Y-%m-%dT%H:%M:00Z")
    except ValueError:
        return ["bad_time: event_time, Date, Time"]
    fine = event["event_time"][:16] == f"{event['Date']}T{event['Time']}"
    return [] if fine else ["bad_time: event_time, Date, Time"]

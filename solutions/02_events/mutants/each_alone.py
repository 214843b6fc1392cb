"""02.5: looks at each event and never at the events together: repeats, disorder and shares go unseen."""

FAILS = [
    "test_02_5_other_broken_simulators_are_found_out",
]


def test_events_are_possible(events):
    for event in events:
        assert event["Casualties"] >= 1 and event["Vehicles"] >= 1
        assert event["Children"] + event["OAPs"] <= event["Casualties"]
        assert event["Pedestrian"] <= event["Casualties"]
        assert event["Cycles"] + event["P2W"] <= event["Vehicles"]
        assert all(event[name] in field.labels for name, field in FIELDS.items() if field.labels)
        assert wall_clock(event["event_time"]) == (event["Date"], event["Time"])
        assert event["event_id"] == named(event)["event_id"]

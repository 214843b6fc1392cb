"""02.2: takes any JSON for an event, NaN included; the next reader stops there."""

FAILS = [
    "test_02_2_what_is_no_event_is_not_decoded",
]


def decode(data):
    return json.loads(data.decode("utf-8"))

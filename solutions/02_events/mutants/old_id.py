"""02.4: a correction under the id of the first report: a reader that drops repeats drops it."""

FAILS = [
    "test_02_4_a_correction_is_about_the_same_accident",
]


_right = revise


def revise(event, rng):
    return {**_right(event, rng), "event_id": event["event_id"]}

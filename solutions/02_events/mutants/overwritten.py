"""02.4: changes the event that it was given: revision 1, sent long ago, is gone."""

FAILS = [
    "test_02_4_the_given_event_is_left_alone",
]


_right = revise


def revise(event, rng):
    event.update(_right(event, rng))
    return event

"""08.4: place and keep are not listened to."""

FAILS = ["test_08_4_place_and_keep_are_carried_along"]

_right = enrich


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    return _right(events)

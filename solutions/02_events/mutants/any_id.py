"""02.3: believes any id, so an event under another one's name passes and replaces it."""

FAILS = [
    "test_02_3_a_poison_event_gets_its_reason",
]


def _wrong_id(event):
    return []

"""What lab 00 promises: the key of an event."""

from itertools import islice

import pytest

from datasets.events import accidents


@pytest.mark.task(
    "00.1", points=0, next_step="Return event['Police_ref'] as bytes: .encode('ascii')."
)
def test_00_1_the_key_is_the_police_reference(student, seed):
    """The key of each event is its police reference, as bytes."""
    events = list(islice(accidents(seed), 20))
    assert student.each.event_key(events) == [event["Police_ref"].encode() for event in events]

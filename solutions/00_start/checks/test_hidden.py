"""The same promise for corrections, on another side of it."""

from itertools import islice

import pytest

from datasets.events import live_records


@pytest.mark.task(
    "00.1",
    points=0,
    next_step="What do the first report and its correction share? Their id is not it.",
)
def test_00_1_a_correction_has_the_key_of_the_first_report(student, seed):
    """All reports of one accident have one key."""
    records = list(
        islice(
            (
                record
                for record in live_records(seed=seed, n=2000)
                if record.event and record.event["revision"] > 1
            ),
            30,
        )
    )
    assert student.each.event_key([record.event for record in records]) == [
        record.key for record in records
    ]

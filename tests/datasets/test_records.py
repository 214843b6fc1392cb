"""The stream holds every accident and the stated disorder, and each record knows its own truth."""

import hashlib
import json
from collections import Counter
from datetime import date
from random import Random

import pytest

from datasets._poison import VARIANTS, poisons, victim
from datasets._wire import encode, epoch_s, revise
from datasets.events import Rates, accidents, inject, live_records
from datasets.schema import EVENT_FIELDS, REASONS

QUIET = Rates(0, 0, 0, 0, 0)
NAMES = {field.name for field in EVENT_FIELDS}


@pytest.fixture(scope="module")
def stream() -> list:
    """20,000 records with the usual disorder."""
    return list(live_records(seed=5, n=20_000))


def test_one_seed_gives_the_same_bytes_and_another_gives_others():
    """Keys, values, times and headers are decided by the seed."""
    first, again, other = (_digest(live_records(seed, n=2000)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_bytes_are_those_of_every_supported_python():
    """The digest was taken once; a change of it changes every student's data."""
    assert _digest(live_records(7, n=3000)) == "d3f89fb000182190aa8228c3e95690ae80c8a87554f32551e845da912ab472c0"


@pytest.mark.parametrize("n", [0, 1, 7, 1000, 4321])
def test_exactly_n_records_come(n):
    """n is met for any size, also on a single day."""
    assert len(list(live_records(seed=3, n=n))) == n
    assert len(list(live_records(seed=3, n=n, days=1))) == n


def test_n_records_spread_over_the_days_asked_for(stream):
    """The cut falls into the last two months of the year, not into spring."""
    assert max(record.event["Date"] for record in stream if record.event) > "2019-11"


def test_a_million_accidents_fit_a_year():
    """A year takes up to 900,000 accidents; for a million records that is enough."""
    assert next(live_records(seed=1, n=1_000_000)).value is not None
    assert next(accidents(1, date(2019, 7, 1), 366, per_day=2700)) is not None  # two calendar years


@pytest.mark.parametrize("n", [1_200_000, 10**12])
def test_more_records_than_a_year_can_hold_are_refused(n):
    """The sentence names the limit, whether a little or far beyond it."""
    with pytest.raises(ValueError, match="900,000 police references"):
        live_records(1, n)


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": 5, "per_day": 3.0}], ids=["negative", "both"])
def test_n_is_refused_where_it_makes_no_sense(wrong):
    """The call itself raises."""
    with pytest.raises(ValueError, match="Give either n"):
        live_records(1, **wrong)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_probability(rate):
    """A rate outside 0 to 1 is refused."""
    with pytest.raises(ValueError, match="Rate late"):
        Rates(late=rate)


def test_every_stated_truth_is_what_an_independent_judge_finds(stream, judge):
    """Valid records are valid, and poison has the very reason that it states."""
    wrong = [(record.reason, judge(record.value)) for record in stream if record.reason != judge(record.value)]
    assert wrong == []
    assert Counter((record.event is None) == (record.reason is not None) for record in stream) == {True: len(stream)}


def test_a_valid_record_is_its_event(stream):
    """Value, key, time and header say what the event says."""
    for record in stream:
        if record.event:
            assert json.loads(record.value) == record.event
            assert record.key == record.event["Police_ref"].encode("ascii")
            assert record.timestamp_ms == epoch_s(record.event) * 1000
            assert record.headers == (("schema_version", b"1"),)


def test_without_disorder_the_stream_is_the_accidents():
    """With all rates at 0 each accident comes once, in order."""
    events = list(accidents(1, days=20))
    assert [record.event for record in inject(events, QUIET, Random(1))] == events


def test_every_accident_is_sent_and_poison_comes_on_top(judge):
    """No first revision is lost to the disorder."""
    events = list(accidents(6, days=200))
    records = list(inject(events, Rates(0.2, 0.3, 0.2, 0.2, 0.1), Random(1)))
    firsts = {record.event["Police_ref"] for record in records if record.event and record.event["revision"] == 1}
    assert firsts == {event["Police_ref"] for event in events}
    assert {judge(record.value) == record.reason for record in records} == {True}


def test_what_is_held_back_at_the_end_is_sent_at_the_end():
    """Of a single accident that is late, corrected and sent twice, everything comes."""
    records = list(inject([next(accidents(1))], Rates(duplicate=1, revision=1, late=1, poison=0), Random(3)))
    sent = Counter(record.event["revision"] for record in records)
    assert set(sent.values()) == {2}
    assert {1, 2} <= set(sent)


def test_rates_are_met(stream):
    """Each kind of disorder is as frequent as its rate says, within half of it."""
    facts = {record.event["Police_ref"] for record in stream if record.event}
    sent = Counter(record.event["event_id"] for record in stream if record.event)
    share = {
        "duplicate": sum(times - 1 for times in sent.values()) / len(sent),
        "revision": len(_refs(stream, revision=2)) / len(facts),
        "poison": sum(record.reason is not None for record in stream) / len(facts),
        "unknown_field": sum(bool(record.event.keys() - NAMES) for record in stream if record.event) / len(stream),
    }
    assert {kind: pytest.approx(getattr(Rates(), kind), rel=0.5) for kind in share} == share


def test_a_duplicate_is_the_same_bytes_some_tens_of_records_later(stream):
    """Copies follow their first record at a distance, and equal it in everything."""
    seen, distances = {}, []
    for place, record in enumerate(stream):
        if record.event and record.event["event_id"] in seen:
            first, copy = seen[record.event["event_id"]]
            assert copy == record
            distances.append(place - first)
        elif record.event:
            seen[record.event["event_id"]] = (place, record)
    assert 20 < sorted(distances)[len(distances) // 2] < 90


def test_a_revision_changes_one_thing_and_never_place_in_time():
    """Revisions keep reference, date and time, and differ in severity, casualties or location."""
    changed = Counter()
    for event in accidents(9, days=60):
        newer = revise(event, Random(event["Police_ref"]))
        changed[tuple(name for name in event if event[name] != newer[name])] += 1
    ids = ("event_id", "revision")
    assert set(changed) == {(*ids, "Severity"), (*ids, "Casualties"), (*ids, "Location")}


def test_revisions_stay_possible_and_within_limits(judge):
    """Fifty revisions of one accident are all valid, the text's length too."""
    event, rng = next(accidents(1)), Random(1)
    for _ in range(50):
        event = revise(event, rng)
        assert judge(encode(event)) is None


def test_sometimes_an_older_revision_comes_after_a_newer(stream):
    """Revisions 1 to 3 exist, and some of them pass each other."""
    newest, stale = {}, 0
    for record in stream:
        if record.event:
            ref, revision = record.event["Police_ref"], record.event["revision"]
            stale += revision < newest.get(ref, 0)
            newest[ref] = max(revision, newest.get(ref, 0))
    assert set(newest.values()) == {1, 2, 3}
    assert stale > 10


def test_late_records_come_up_to_three_hours_after_newer_ones():
    """Lateness alone makes a stream unordered, by more than an hour and never by more than three."""
    records = list(inject(accidents(2, days=5, per_day=2000), Rates(0, 0, 0.03, 0, 0), Random(2)))
    late = _lateness_ms(records)
    assert 0.02 < len(late) / len(records) < 0.04
    assert 3600_000 < max(late) <= 3 * 3600_000


def test_in_a_quiet_stream_late_records_are_still_passed():
    """With five accidents a day a late one comes after a newer one all the same."""
    records = list(inject(accidents(2, days=300), Rates(0, 0, 0.05, 0, 0), Random(2)))
    assert len(_lateness_ms(records)) > 40


def test_unknown_fields_are_kept_in_the_truth(stream):
    """A record with more fields than the contract is valid, and its event has them."""
    extras = [record for record in stream if record.event and record.event.keys() - NAMES]
    assert extras[0].reason is None
    assert len({tuple(record.event.keys() - NAMES) for record in extras}) > 3


def test_injection_holds_few_records_at_a_time():
    """The first record comes before the thousandth accident is asked for: the stream is never collected."""
    asked = []
    records = inject((asked.append(1) or event for event in accidents(1, per_day=50)), Rates(), Random(1))
    next(records)
    assert len(asked) < 10


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_each_poison_variant_has_the_reason_that_it_states(variant, judge):
    """On 200 different accidents, clock changes among them, the judge agrees with the variant."""
    events = [*accidents(8, days=30), *accidents(8, date(2019, 10, 27), 1, per_day=100)][:200]
    for event in events:
        made = variant.make(victim(event, 999_999), Random(1))
        assert judge(encode(made) if isinstance(made, dict) else made) == variant.reason


def test_the_victim_of_poison_is_valid_until_it_is_broken(judge):
    """So a poison record has the one fault that its variant adds."""
    assert judge(encode(victim(next(accidents(1)), 999_999))) is None


def test_every_poison_variant_appears_in_turn(stream):
    """As many poison records as there are variants show each of them once."""
    taken = [variant.name for (variant, _), _ in zip(poisons(Random(1)), VARIANTS, strict=False)]
    assert sorted(taken) == sorted(variant.name for variant in VARIANTS)
    assert {record.reason for record in stream} - {None} == {code for code, _ in REASONS}


@pytest.mark.parametrize("seed", range(5))
def test_twenty_poison_records_show_most_reasons(seed):
    """What a thousand records hold at the usual 2% shows at least seven of the nine reasons."""
    shown = {variant.reason for (variant, _), _ in zip(poisons(Random(seed)), range(20), strict=False)}
    assert len(shown) >= 7


def test_poison_never_steals_a_fact():
    """No poison record carries a key or a reference that any accident has, at the highest rate."""
    events = list(accidents(3, days=100))
    records = list(inject(events, Rates(poison=1), Random(3)))
    real = {event["Police_ref"].encode() for event in events}
    poison = [record for record in records if record.reason]
    assert len(poison) == len(events)
    assert [record.key for record in poison if record.key in real] == []
    assert [record.value for record in poison if any(ref in (record.value or b"") for ref in real)] == []


def test_unreadable_poison_has_no_key_and_a_tombstone_has_one(stream):
    """Where the producer could still tell the accident, the key is there."""
    by_reason = {record.reason: record for record in stream if record.reason}
    assert by_reason["tombstone"].key is not None
    assert {record.key for record in stream if record.value in (b"", b"[]", b"null")} == {None}
    assert {record.headers for record in stream if record.key is None} == {()}


def _refs(records, revision: int) -> set:
    return {record.event["Police_ref"] for record in records if record.event and record.event["revision"] == revision}


def _lateness_ms(records) -> list[int]:
    newest, late = 0, []
    for record in records:
        if record.timestamp_ms < newest:
            late.append(newest - record.timestamp_ms)
        newest = max(newest, record.timestamp_ms)
    return late


def _digest(records) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr((record.key, record.value, record.timestamp_ms, record.headers)).encode())
    return digest.hexdigest()

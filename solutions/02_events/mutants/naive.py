"""The naive way: random ids, json as it comes, no judge, a correction that overwrites, a test that cannot fail."""

import random

FAILS = [
    "test_02_1_asked_twice_the_id_is_the_same",
    "test_02_1_the_id_is_the_contract_s",
    "test_02_2_bytes_are_compact_utf_8",
    "test_02_2_what_is_no_json_is_not_encoded",
    "test_02_2_what_is_no_event_is_not_decoded",
    "test_02_3_a_poison_event_gets_its_reason",
    "test_02_3_broken_rules_are_named",
    "test_02_3_a_missing_field_is_no_zero",
    "test_02_3_types_are_exact",
    "test_02_3_the_clock_on_the_wall_decides",
    "test_02_4_a_correction_is_about_the_same_accident",
    "test_02_4_the_given_event_is_left_alone",
    "test_02_4_each_correction_changes_one_thing",
    "test_02_4_a_seed_repeats",
    "test_02_5_broken_simulators_are_found_out",
    "test_02_5_other_broken_simulators_are_found_out",
    "test_02_6_every_event_comes_out_and_most_keep_their_order",
    "test_02_6_duplicates_and_poison_come_on_top",
    "test_02_6_without_rates_nothing_changes_and_a_seed_repeats",
    "test_02_6_events_are_taken_as_they_come",
]


def event_id(police_ref, revision):
    return str(uuid.uuid4())


def encode(event):
    return json.dumps(event).encode()


def decode(data):
    return json.loads(data)


def validate(event):
    return []


def revise(event, rng):
    event["revision"] += 1
    event["Casualties"] += random.randint(0, 1)
    return event


def test_events_are_possible(events):
    assert events


def inject(events, rates, rng):
    events = list(events)
    random.shuffle(events)
    return iter(events)

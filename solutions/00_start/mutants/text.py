"""The reference as text: Kafka's client takes bytes, and what it does with a str depends on its version."""

FAILS = [
    "test_00_1_the_key_is_the_police_reference",
    "test_00_1_a_correction_has_the_key_of_the_first_report",
]


def event_key(event):
    return event["Police_ref"]

"""Right for first reports, another key for each correction: the order of an accident's reports is lost where it matters."""

FAILS = [
    "test_00_1_a_correction_has_the_key_of_the_first_report",
]


def event_key(event):
    reference = event["Police_ref"] if event["revision"] == 1 else event["event_id"]
    return reference.encode("ascii")

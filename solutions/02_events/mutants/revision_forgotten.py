"""02.1: the id is the accident's, not the report's: a correction looks like a re-send and is thrown away as a duplicate."""

FAILS = [
    "test_02_1_every_report_has_an_id_of_its_own",
]


def event_id(police_ref, revision):
    return str(uuid.uuid5(NAMESPACE, f"{police_ref}:1"))

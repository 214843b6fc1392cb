"""02.3: isinstance(True, int): JSON's true counts as one casualty, and a number beyond 32 bits passes until MySQL sees it."""

FAILS = [
    "test_02_3_a_poison_event_gets_its_reason",
    "test_02_3_types_are_exact",
]


def validate(event):
    malformed = [
        f"malformed: {name}"
        for name, field in FIELDS.items()
        if event.get(name) is not None
        and not isinstance(event[name], str if field.type == "string" else int)
    ]
    missing = [f"missing_field: {name}" for name in FIELDS if event.get(name) is None]
    if malformed or missing:
        return malformed + missing
    if event["schema_version"] != SCHEMA_VERSION:
        return ["unknown_version: schema_version"]
    return _bad_time(event) + bad_values(event) + _impossible(event) + _wrong_id(event)

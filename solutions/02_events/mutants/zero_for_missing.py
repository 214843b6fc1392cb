"""02.3: event.get(name, 0): what is not known becomes nobody was hurt."""

FAILS = [
    "test_02_3_a_poison_event_gets_its_reason",
    "test_02_3_a_missing_field_is_no_zero",
]


_right = validate


def validate(event):
    return _right(
        {
            **{name: 0 for name, field in FIELDS.items() if field.type == "int"},
            **{k: v for k, v in event.items() if v is not None},
        }
    )

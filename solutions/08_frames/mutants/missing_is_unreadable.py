"""08.2: a record without one of the fields counts as unreadable: its reason will be the wrong one."""

FAILS = [
    "test_08_2_what_cannot_be_read_is_said",
    "test_08_2_a_missing_field_arrives_as_null",
]

_right = parse


def parse(raw):
    whole = ~any_of([F.col(name).isNull() for name in NAMES])
    return _right(raw).withColumn("readable", F.col("readable") & whole)

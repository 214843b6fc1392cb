"""08.2: readable is what gives a struct: garbage gives one too, full of NULLs."""

FAILS = ["test_08_2_what_cannot_be_read_is_said", "test_08_2_other_things_that_are_no_event"]

_right = parse


def parse(raw):
    struct = F.from_json(F.col("kafka_value").cast("string"), event_schema())
    return _right(raw).withColumn("readable", struct.isNotNull())

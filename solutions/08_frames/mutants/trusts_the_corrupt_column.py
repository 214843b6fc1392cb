"""08.2: only the corrupt column is asked: words behind the brace, two events in one record and a number for a text pass."""

FAILS = ["test_08_2_other_things_that_are_no_event"]

_right = parse


def parse(raw):
    text = F.col("kafka_value").cast("string")
    struct = F.from_json(text, event_schema().add(BROKEN, T.StringType()), STRICT)
    read = struct.isNotNull() & struct[BROKEN].isNull()
    return _right(raw).withColumn("readable", F.coalesce(read, F.lit(False)))

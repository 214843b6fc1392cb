"""08.2: from_json leaves out what the schema does not know, without a word."""

FAILS = ["test_08_2_unknown_fields_are_kept"]

_right = parse


def parse(raw):
    return _right(raw).withColumn("extra_fields", F.lit(None).cast("string"))

"""08.2: the value travels on as text: bytes that are no UTF-8 are others afterwards."""

FAILS = ["test_08_2_one_row_in_one_row_out"]

_right = parse


def parse(raw):
    text = F.make_valid_utf8(F.col("kafka_value").cast("string"))
    return _right(raw).withColumn("kafka_value", text.cast("binary"))

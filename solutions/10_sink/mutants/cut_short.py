"""10.4: long values of dead letters are cut, to spare the log: what is left can be neither read nor repaired."""

FAILS = ["test_10_4_poison_in_a_full_batch_costs_no_other"]

_right = make_sink


def make_sink(settings, after_merge=lambda batch_id, result: None):
    right = _right(settings, after_merge)

    def sink(batch, batch_id):
        short = F.substring(F.col("kafka_value"), 1, 10_000)
        right(batch.withColumn("kafka_value", short), batch_id)

    return sink

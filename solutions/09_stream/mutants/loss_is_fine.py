"""09.1: failOnDataLoss is false, so that the error goes away. A topic that was made anew is read as if nothing had been (S15)."""

FAILS = ["test_09_1_a_topic_made_anew_fails_loudly"]


def read_topic(spark, bootstrap, topic, start="earliest", max_per_trigger=10_000):
    options = {
        "kafka.bootstrap.servers": bootstrap,
        "subscribe": topic,
        "startingOffsets": start,
        "failOnDataLoss": "false",
        "maxOffsetsPerTrigger": str(max_per_trigger),
        "kafka.fetch.max.wait.ms": "50",
    }
    return spark.readStream.format("kafka").options(**options).load()

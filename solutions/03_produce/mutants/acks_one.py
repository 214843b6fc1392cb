"""03.2: acks=1 for speed, which switches idempotence off without a word (K3)."""

FAILS = ["test_03_2_the_broker_knows_the_producer"]


def build_producer(bootstrap, **overrides):
    return KafkaProducer(bootstrap_servers=bootstrap, **{"acks": 1, **overrides})

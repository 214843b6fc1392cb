"""03.2: the function's own settings outrank the caller's."""

FAILS = ["test_03_2_overrides_outrank"]


def build_producer(bootstrap, **overrides):
    own = {"enable_idempotence": True, "acks": "all", "linger_ms": 20, "batch_size": 64 * 1024}
    return KafkaProducer(bootstrap_servers=bootstrap, **{**overrides, **own})

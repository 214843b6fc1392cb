"""03.2: without a broker it tries again and again, and the caller never hears of it."""

FAILS = ["test_03_2_no_broker_is_an_error_in_time"]

_right = build_producer


def build_producer(bootstrap, **overrides):
    while True:
        try:
            return _right(bootstrap, **overrides)
        except KafkaError:
            time.sleep(0.1)

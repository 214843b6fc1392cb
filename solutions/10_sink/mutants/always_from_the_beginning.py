"""10.5: a fresh checkpoint at each start: nothing is forgotten, and everything is read again."""

FAILS = ["test_10_5_a_restart_goes_on_where_it_stopped", "test_10_5_from_the_topic_to_the_facts"]

_right = run_stream


def run_stream(spark, settings, sink=None, available_now=True):
    fresh = settings.having(checkpoint=settings.checkpoint / uuid.uuid4().hex)
    return _right(spark, fresh, sink, available_now)

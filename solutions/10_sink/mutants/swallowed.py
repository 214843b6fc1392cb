"""10.4: errors are printed: Spark takes the silence for success, and the batch is lost (S8)."""

FAILS = [
    "test_10_4_a_crash_leaves_one_effect",
    "test_10_4_letters_that_are_not_taken_stop_the_batch",
]

_right = make_sink


def make_sink(settings, after_merge=lambda batch_id, result: None):
    right = _right(settings, after_merge)

    def sink(batch, batch_id):
        try:
            right(batch, batch_id)
        except Exception as error:
            print(error)

    return sink

"""09.3: the sink's errors are printed. Spark hears that all is well, and the batch is lost (S8)."""

FAILS = ["test_09_3_a_batch_that_failed_comes_again"]

_right = start


def start(frame, sink, checkpoint, mode="update", available_now=True):
    def quiet(batch, batch_id):
        try:
            sink(batch, batch_id)
        except Exception as error:
            print(error)

    return _right(frame, quiet, checkpoint, mode, available_now)

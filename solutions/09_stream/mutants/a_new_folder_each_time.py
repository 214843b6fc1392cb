"""09.3: a checkpoint of its own for each start: nothing collides, and each start is the first one."""

FAILS = [
    "test_09_3_a_restart_reads_no_old_offset",
    "test_09_3_a_batch_that_failed_comes_again",
    "test_09_3_two_queries_do_not_know_of_each_other",
]

_right = start


def start(frame, sink, checkpoint, mode="update", available_now=True):
    return _right(frame, sink, f"{checkpoint}/{uuid.uuid4()}", mode, available_now)

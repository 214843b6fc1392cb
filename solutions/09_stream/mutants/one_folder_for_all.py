"""09.3: whatever checkpoint is named, all queries share the one beside it (S13)."""

FAILS = [
    "test_09_3_a_restart_reads_no_old_offset",
    "test_09_3_the_mode_decides_what_is_told",
    "test_09_3_told_to_go_on_it_goes_on",
    "test_09_3_a_batch_that_failed_comes_again",
    "test_09_3_two_queries_do_not_know_of_each_other",
]

_right = start


def start(frame, sink, checkpoint, mode="update", available_now=True):
    return _right(frame, sink, str(Path(checkpoint).parent / "all"), mode, available_now)

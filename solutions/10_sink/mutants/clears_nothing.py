"""10.2: what an earlier attempt left stands in the way: after the first crash in staging no attempt ever succeeds (J3)."""

FAILS = [
    "test_10_2_what_an_earlier_attempt_left_is_replaced",
    "test_10_4_a_crash_leaves_one_effect",
    "test_10_4_letters_that_are_not_taken_stop_the_batch",
]


def write_staging(frame, settings, batch_id):
    this = {"query_id": query_id_of(frame), "batch_id": batch_id}
    numbered = frame.withColumns({name: F.lit(str(mark)) for name, mark in this.items()})
    numbered.coalesce(2).write.format("jdbc").options(**jdbc_options(settings)).mode(
        "append"
    ).save()

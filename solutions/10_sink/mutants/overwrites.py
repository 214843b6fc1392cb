"""10.2: mode("overwrite") instead of clearing: it wants to drop the table, with its key and its types (J1)."""

FAILS = [
    "test_10_2_a_batch_is_staged",
    "test_10_2_what_an_earlier_attempt_left_is_replaced",
    "test_10_2_only_its_own_rows_and_few_connections",
    "test_10_2_no_time_zone_touches_a_row",
    "test_10_4_a_batch_that_comes_again_changes_nothing",
    "test_10_4_the_dead_go_to_a_table_and_to_a_topic",
    "test_10_4_a_crash_leaves_one_effect",
    "test_10_4_letters_that_are_not_taken_stop_the_batch",
    "test_10_4_an_empty_batch_is_noted",
    "test_10_4_poison_in_a_full_batch_costs_no_other",
    "test_10_4_a_trouble_is_survived",
    "test_10_5_from_the_topic_to_the_facts",
]


def write_staging(frame, settings, batch_id):
    this = {"query_id": query_id_of(frame), "batch_id": batch_id}
    numbered = frame.withColumns({name: F.lit(str(mark)) for name, mark in this.items()})
    numbered.coalesce(2).write.format("jdbc").options(**jdbc_options(settings)).mode(
        "overwrite"
    ).save()

"""The naive way: from now on, all at once, lost records forgiven; counted by the hour of the wall clock, for ever; errors printed; one checkpoint for all, in the working folder; counts added up, a commit each."""

FAILS = [
    "test_09_1_every_record_comes_once_a_few_at_a_time",
    "test_09_1_it_begins_where_it_is_told_to",
    "test_09_1_a_topic_made_anew_fails_loudly",
    "test_09_2_windows_are_what_pandas_counts",
    "test_09_2_an_event_counts_once",
    "test_09_2_append_tells_a_window_once_it_is_closed",
    "test_09_2_late_rows_count_as_the_oracle_says",
    "test_09_2_a_late_row_with_and_without_a_batch_between",
    "test_09_2_the_last_window_waits_for_a_later_report",
    "test_09_2_windows_may_overlap",
    "test_09_2_no_time_zone_makes_a_difference",
    "test_09_2_the_state_does_not_grow",
    "test_09_3_a_restart_reads_no_old_offset",
    "test_09_3_the_mode_decides_what_is_told",
    "test_09_3_told_to_go_on_it_goes_on",
    "test_09_3_a_batch_that_failed_comes_again",
    "test_09_3_two_queries_do_not_know_of_each_other",
    "test_09_4_the_same_query_finds_its_folder_again",
    "test_09_4_two_queries_have_two_folders",
    "test_09_4_a_changed_grouping_takes_a_new_path",
    "test_09_4_name_and_version_do_not_run_together",
    "test_09_5_a_batch_that_comes_again_changes_nothing",
    "test_09_5_new_numbers_take_the_place_of_old_ones",
    "test_09_5_the_caller_commits",
    "test_09_5_many_windows_take_few_statements",
    "test_09_5_the_change_is_dated_in_utc",
    "test_09_6_the_last_batch_in_five_numbers",
    "test_09_6_what_any_operator_drops_is_counted",
]


def read_topic(spark, bootstrap, topic, start="earliest", max_per_trigger=10_000):
    options = {"kafka.bootstrap.servers": bootstrap, "subscribe": topic, "failOnDataLoss": "false"}
    return spark.readStream.format("kafka").options(**options).load()


def count_by_window(events, window="1 hour", slide=None, delay="2 hours"):
    told = events.withColumn("window", F.date_format("event_time", "yyyy-MM-dd HH:00"))
    told = told.withColumns({"window_start": F.col("window"), "window_end": F.col("window")})
    grouped = told.groupBy("window_start", "window_end", "severity", "local_authority")
    return grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))


def start(frame, sink, checkpoint, mode="update", available_now=True):
    def quiet(batch, batch_id):
        try:
            sink(batch, batch_id)
        except Exception as error:
            print(error)

    writer = frame.writeStream.foreachBatch(quiet).outputMode("update")
    return writer.option("checkpointLocation", "checkpoint").trigger(availableNow=True).start()


def checkpoint_path(base, query, schema_version=1):
    return "checkpoint"


def upsert_windows(connection, rows):
    for row in rows:
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(
            sa.text(
                f"INSERT INTO agg_incident_window ({names}, updated_at_utc) VALUES ({marks}, NOW(6))"
                " ON DUPLICATE KEY UPDATE incidents = incidents + :incidents,"
                " casualties = casualties + :casualties"
            ),
            row,
        )
        connection.commit()


def progress(query):
    return query.lastProgress

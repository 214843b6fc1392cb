"""The naive way: collect and count, from_json and cast, whatever is NULL is thrown away, one connection, overwrite."""

FAILS = [
    "test_08_1_nothing_runs_before_somebody_asks",
    "test_08_2_one_row_in_one_row_out",
    "test_08_2_what_cannot_be_read_is_said",
    "test_08_2_other_things_that_are_no_event",
    "test_08_2_unknown_fields_are_kept",
    "test_08_3_every_row_is_in_one_of_the_two",
    "test_08_3_the_reason_is_the_contract_s",
    "test_08_3_a_dead_row_keeps_place_and_bytes",
    "test_08_3_dates_that_never_were",
    "test_08_3_of_two_faults_the_first_counts",
    "test_08_3_no_time_zone_makes_a_difference",
    "test_08_4_the_star_s_names_times_and_keys",
    "test_08_4_dead_rows_stop_nothing_and_no_zone_matters",
    "test_08_4_the_hashes_are_lab_06_s",
    "test_08_4_place_and_keep_are_carried_along",
    "test_08_5_all_rows_arrive_by_several_connections",
    "test_08_5_a_table_is_read_in_stretches",
    "test_08_5_the_table_is_the_same_table",
    "test_08_5_a_query_is_read_in_stretches_too",
    "test_08_6_what_a_plan_does",
    "test_08_6_other_plans",
]


def collisions_per_month(frame):
    rows = [(row.date_key // 10_000, row.date_key // 100 % 100) for row in frame.collect()]
    counted = pd.Series(rows, dtype=object).value_counts().sort_index()
    found = [(*month, int(n)) for month, n in counted.items()]
    return frame.sparkSession.createDataFrame(found, "year int, month int, incidents long")


def parse(raw):
    event = F.from_json(F.col("value").cast("string"), event_schema())
    rows = raw.select(*kafka_columns(raw), event.alias("event")).where("event IS NOT NULL")
    kept = [F.col(f"event.{name}").alias(name) for name in NAMES]
    nothing = F.lit(None).cast("string").alias("extra_fields")
    return rows.select(*PLACE, *kept, nothing, F.lit(True).alias("readable"))


def judge(events):
    day = F.to_date("Date")
    reason = F.when(day.isNull(), "bad_time").when(F.col("Casualties") < 1, "out_of_range")
    return events.withColumn("reason", reason)


def split_valid(events):
    judged = judge(events)
    good = judged.where("reason IS NULL").drop("reason", "readable")
    return good, judged.where("reason IS NOT NULL").select("topic", "reason")


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    moment = F.to_timestamp("event_time")
    return events.select(
        "*",
        moment.alias("event_time_utc"),
        F.to_timestamp(F.concat("Date", F.lit(" "), "Time")).alias("event_time_local"),
        F.col("kafka_offset").alias("date_key"),
        F.col("kafka_offset").alias("time_key"),
        *(F.col("kafka_offset").alias(name) for name in HASHED_FIELDS),
    )


def write_partitioned(frame, settings, table="stg_collision", partitions=2):
    frame.write.format("jdbc").options(**jdbc(settings, table)).mode("overwrite").save()


def read_partitioned(spark, settings, table="fact_incident", column="incident_key", partitions=2):
    return spark.read.format("jdbc").options(**jdbc(settings, table)).load()


def explain_facts(frame):
    return PlanFacts(scans=1, moves=0, broadcast_joins=0)

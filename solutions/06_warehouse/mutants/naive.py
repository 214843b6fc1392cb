"""The naive way: tables without keys, a member for each row, the totals of years compared."""

FAILS = [
    "test_06_1_columns_are_as_described",
    "test_06_1_what_is_there_is_refused",
    "test_06_1_a_fact_points_to_members",
    "test_06_1_impossible_rows_are_refused",
    "test_06_1_all_fourteen_tables_twice",
    "test_06_2_known_keys_have_their_known_hash",
    "test_06_2_parts_do_not_run_together",
    "test_06_2_the_hash_is_the_agreed_one",
    "test_06_3_each_member_is_there_once",
    "test_06_3_one_insert_for_all_that_are_missing",
    "test_06_3_variants_are_members_of_their_own",
    "test_06_3_members_go_in_in_one_order",
    "test_06_3_another_loader_was_quicker",
    "test_06_4_severity_by_month",
    "test_06_4_weekday_and_weekend",
    "test_06_4_worst_places",
    "test_06_4_unknown_members",
    "test_06_5_like_for_like",
    "test_06_5_the_index_saves_reading",
    "test_06_5_an_authority_that_comes_and_goes",
    "test_06_5_one_index_more_and_nothing_else",
    "test_06_6_fatal_by_hour",
    "test_06_6_no_fatal_accident_at_all",
]


def build_metadata():
    metadata = MetaData()
    for name in ("date", "time", "location", "severity", "road_condition", "crossing"):
        columns = [Column(c.name, sa.Text) for c in TABLES[f"dim_{name}"].columns[1:]]
        Table(f"dim_{name}", metadata, Column(f"{name}_key", INTEGER), *columns)
    columns = [Column(c.name, sa.Text) for c in TABLES["fact_incident"].columns[1:]]
    Table("fact_incident", metadata, Column("incident_key", INTEGER, primary_key=True), *columns)
    return metadata


def key_hash(*parts):
    return "".join(map(str, parts)).encode()


def upsert_dimension(connection, table, rows, hashing=None):
    key, hashed = key_and_hash(table)
    first = connection.scalar(sa.select(sa.func.max(key))) + 1
    for number, row in enumerate(rows, max(first, 1)):
        value = number.to_bytes(32, "big")
        connection.execute(sa.insert(table).values({**row, key.name: number, hashed.name: value}))
    connection.commit()
    return _keys(connection, sa.select(hashed, key).where(key >= first))


def severity_by_month():
    return """
        SELECT year, month, severity, COUNT(DISTINCT date_key) AS accidents,
               COUNT(casualties) AS casualties
        FROM fact_incident JOIN dim_date USING (date_key) JOIN dim_severity USING (severity_key)
        WHERE severity_key > 0 GROUP BY year, month, severity
    """


def weekday_and_weekend():
    return """
        SELECT IF(day_name IN ('Saturday', 'Sunday'), 'weekend', 'weekday') AS kind,
               COUNT(DISTINCT date_key) AS days, COUNT(*) AS accidents,
               COUNT(*) / COUNT(DISTINCT date_key) AS per_day
        FROM fact_incident JOIN dim_date USING (date_key) GROUP BY kind ORDER BY kind
    """


def worst_places():
    return """
        SELECT local_authority, 1 AS place_rank, location, SUM(northing), SUM(casualties)
        FROM fact_incident JOIN dim_location USING (location_key)
        GROUP BY local_authority, location ORDER BY SUM(casualties) DESC LIMIT 10
    """


def like_for_like():
    return """
        SELECT year, LAG(COUNT(*)) OVER (ORDER BY year) AS accidents_before,
               COUNT(*) AS accidents, 0 AS change_pct
        FROM fact_incident JOIN dim_date USING (date_key) GROUP BY year
    """


def index_for_nearby():
    return "CREATE INDEX ix_near ON dim_location (northing)"


def fatal_by_hour():
    return """
        SELECT hour, COUNT(*) AS fatal FROM fact_incident
        JOIN dim_time USING (time_key) JOIN dim_severity USING (severity_key)
        WHERE severity = 'Fatal' GROUP BY hour ORDER BY hour
    """

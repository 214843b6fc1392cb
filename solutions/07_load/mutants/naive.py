"""The naive way: the row's number as the key of everything, a row at a time with a commit, seven calls of to_sql, errors printed, a test that cannot fail."""

FAILS = [
    "test_07_1_a_dimension_holds_each_member_once",
    "test_07_1_days_and_minutes_are_their_own_key",
    "test_07_1_a_fact_names_its_members_by_hash",
    "test_07_2_new_facts_are_inserted_and_the_caller_commits",
    "test_07_2_what_says_the_same_is_left_alone",
    "test_07_3_a_file_is_loaded_whole",
    "test_07_3_the_same_bytes_again_write_nothing",
    "test_07_3_a_corrected_file_changes_what_differs",
    "test_07_3_nothing_is_seen_before_everything_is",
    "test_07_3_a_crash_in_table_five_leaves_nothing",
    "test_07_4_broken_loaders_are_found_out",
    "test_07_5_all_loaders_run_at_once",
    "test_07_1_places_that_look_alike_stay_apart",
    "test_07_1_the_frame_s_own_index_means_nothing",
    "test_07_2_the_stream_is_outranked",
    "test_07_2_the_server_gets_few_statements",
    "test_07_2_staging_is_left_as_it_was_found",
    "test_07_2_rolled_back_it_leaves_nothing",
    "test_07_3_an_older_issue_changes_nothing",
    "test_07_3_a_crash_at_the_ledger_leaves_nothing",
    "test_07_3_a_half_uploaded_file_is_refused_whole",
    "test_07_3_a_record_too_large_is_refused",
    "test_07_3_a_trouble_is_survived",
    "test_07_4_other_broken_loaders_are_found_out",
    "test_07_5_one_that_fails_stops_no_other",
]


def to_star(frame):
    wide = frame.reset_index(drop=True)
    for name in NATURAL_KEYS:
        wide[f"{name}_hash"] = [b"%032d" % number for number in wide.index]
    wide["date_key"] = wide["time_key"] = wide.index
    star = {
        f"dim_{name}": wide[[f"{name}_hash", *columns]] for name, columns in NATURAL_KEYS.items()
    }
    star["dim_date"], star["dim_time"] = wide[["date_key", "date"]], wide[["time_key", "time"]]
    return star | {"fact_incident": wide[["line", "police_ref", *PLAIN, *HASHES]]}


def load_facts(connection, rows, fingerprint="0" * 64):
    for row in rows:
        try:
            put(connection, "stg_collision", pd.DataFrame([row]).assign(fingerprint=fingerprint))
            connection.execute(sa.text(INSERT), {"fingerprint": fingerprint})
            connection.commit()
        except sa.exc.DBAPIError as error:
            print(error)
    return LoadResult(inserted=len(rows))


def load_file(engine, path, encoding="utf-8"):
    try:
        good, rejects = cleaned(path, encoding)[1:]
        star = to_star(good)
        for table in SEVEN:
            star[table].to_sql(table, engine, if_exists="append", index=False)
        return LoadResult(inserted=len(good), rejected=len(rejects))
    except Exception as error:
        print(error)
        return LoadResult()


def test_loading_twice_changes_nothing(load, rows):
    load()
    load()
    assert True


def load_together(engine, paths):
    return [load_file(engine, path) for path in paths]

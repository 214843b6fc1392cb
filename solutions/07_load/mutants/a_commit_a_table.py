"""07.3: engine instead of connection: a transaction for each table (P2)."""

FAILS = [
    "test_07_3_nothing_is_seen_before_everything_is",
    "test_07_3_a_crash_in_table_five_leaves_nothing",
    "test_07_5_all_loaders_run_at_once",
    "test_07_3_a_crash_at_the_ledger_leaves_nothing",
    "test_07_3_a_trouble_is_survived",
]


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)
    with engine.connect() as alone:
        known = nothing_to_do(alone, file)
    if known:
        return known
    keys = {
        key: good[text].str.replace(r"\D", "", regex=True).astype("int64") for key, text in KEYS
    }
    staged = good.assign(**keys)[["line", "police_ref", *PLAIN, *NATURAL]].assign(
        fingerprint=file.fingerprint, **hashes(good)
    )
    retried(engine, lambda connection: put(connection, "stg_collision", staged))
    this, counted = {"fingerprint": file.fingerprint}, []
    for statement in (*dimension_statements("stg_collision", OF_THE_FILE), UPDATE, INSERT, CLEAR):
        counted.append(
            retried(engine, lambda own, text=statement: own.execute(sa.text(text), this).rowcount)
        )
    facts = LoadResult(counted[-2], counted[-3], counted[-1] - counted[-2] - counted[-3])
    return retried(engine, lambda connection: finish(connection, file, facts, rejects))

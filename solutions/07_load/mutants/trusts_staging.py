"""07.2: does not clear staging first: what a crash left there stands in the way for ever."""

FAILS = ["test_07_2_staging_is_left_as_it_was_found"]


def load_facts(connection, rows, fingerprint="0" * 64):
    this = {"fingerprint": fingerprint}
    put(connection, "stg_collision", pd.DataFrame(rows).assign(**this))
    updated = connection.execute(sa.text(UPDATE), this).rowcount
    inserted = connection.execute(sa.text(INSERT), this).rowcount
    connection.execute(sa.text(CLEAR), this)
    return LoadResult(inserted, updated, len(rows) - updated - inserted)

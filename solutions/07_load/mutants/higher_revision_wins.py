"""07.2: the higher revision wins, as among the stream's: its third report outranks the verified record."""

FAILS = ["test_07_2_the_stream_is_outranked"]


def load_facts(connection, rows, fingerprint="0" * 64):
    this = {"fingerprint": fingerprint}
    connection.execute(sa.text(CLEAR), this)
    put(connection, "stg_collision", pd.DataFrame(rows).assign(**this))
    newer = f"{UPDATE} AND s.revision >= f.revision"
    updated = connection.execute(sa.text(newer), this).rowcount
    inserted = connection.execute(sa.text(INSERT), this).rowcount
    connection.execute(sa.text(CLEAR), this)
    return LoadResult(inserted, updated, len(rows) - updated - inserted)

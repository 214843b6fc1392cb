"""07.2: INSERT IGNORE: nothing is ever corrected, and the stream's word stands against the file's."""

FAILS = [
    "test_07_2_what_says_the_same_is_left_alone",
    "test_07_2_the_stream_is_outranked",
    "test_07_2_the_server_gets_few_statements",
]


def load_facts(connection, rows, fingerprint="0" * 64):
    this = {"fingerprint": fingerprint}
    connection.execute(sa.text(CLEAR), this)
    put(connection, "stg_collision", pd.DataFrame(rows).assign(**this))
    ignoring = INSERT.replace("INSERT", "INSERT IGNORE", 1)
    inserted = connection.execute(sa.text(ignoring), this).rowcount
    connection.execute(sa.text(CLEAR), this)
    return LoadResult(inserted, 0, len(rows) - inserted)

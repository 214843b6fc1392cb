"""07.3: an error of the database is printed, and the caller hears that nothing happened."""

FAILS = [
    "test_07_3_a_crash_in_table_five_leaves_nothing",
    "test_07_3_a_crash_at_the_ledger_leaves_nothing",
]

_right = load_file


def load_file(engine, path, encoding="utf-8"):
    try:
        return _right(engine, path, encoding)
    except sa.exc.DBAPIError as error:
        print(error)
        return LoadResult()

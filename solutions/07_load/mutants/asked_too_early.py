"""07.3: asks the ledger before it waits for its turn: two loaders at once both hear that the file is not there."""

FAILS = ["test_07_5_all_loaders_run_at_once"]


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)
    known = retried(engine, lambda connection: nothing_to_do(connection, file))
    if known:
        return known

    def work(connection):
        connection.execute(sa.text(ONE_WRITER))
        return finish(connection, file, write_star(connection, file, good), rejects)

    return retried(engine, work)

"""07.3: the ledger's row is written in a second transaction: a crash between the two, and the file is there but not known."""

FAILS = ["test_07_3_a_crash_at_the_ledger_leaves_nothing"]

_right = load_file


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)

    def work(connection):
        connection.execute(sa.text(ONE_WRITER))
        return nothing_to_do(connection, file) or write_star(connection, file, good)

    facts = retried(engine, work)
    if facts.already_loaded or facts.superseded:
        return facts
    return retried(engine, lambda connection: finish(connection, file, facts, rejects))


def load_together(engine, paths):  # with the right loader: which of two comes first is chance
    with ThreadPoolExecutor(max_workers=len(paths)) as loaders:
        running = [loaders.submit(_right, engine, path) for path in paths]
    return [load.result() for load in running]

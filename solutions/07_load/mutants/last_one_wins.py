"""07.3: the file that comes last wins, even if it is the first issue, come late."""

FAILS = ["test_07_3_an_older_issue_changes_nothing"]

_right = load_file


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)

    def work(connection):
        connection.execute(sa.text(ONE_WRITER))
        known = ledger_entry(connection, file.fingerprint)
        return known or finish(connection, file, write_star(connection, file, good), rejects)

    return retried(engine, work)


def load_together(engine, paths):  # with the right loader: which of two comes first is chance
    with ThreadPoolExecutor(max_workers=len(paths)) as loaders:
        running = [loaders.submit(_right, engine, path) for path in paths]
    return [load.result() for load in running]

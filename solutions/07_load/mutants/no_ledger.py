"""07.3: nobody asks the ledger: each run does all the work again, and then stumbles over the ledger's own key."""

FAILS = ["test_07_3_the_same_bytes_again_write_nothing", "test_07_3_an_older_issue_changes_nothing"]

_right = load_file


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)

    def work(connection):
        connection.execute(sa.text(ONE_WRITER))
        return finish(connection, file, write_star(connection, file, good), rejects)

    return retried(engine, work)


def load_together(engine, paths):  # with the right loader: which of two comes first is chance
    with ThreadPoolExecutor(max_workers=len(paths)) as loaders:
        running = [loaders.submit(_right, engine, path) for path in paths]
    return [load.result() for load in running]

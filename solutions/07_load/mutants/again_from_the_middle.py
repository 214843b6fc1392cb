"""07.3: after a deadlock it goes on where it was; but MySQL has undone what came before, and nothing of it is there."""

FAILS = ["test_07_3_a_trouble_is_survived"]


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)
    with engine.begin() as connection:
        connection.execute(sa.text(ONE_WRITER))
        known = nothing_to_do(connection, file)
        if known:
            return known
        try:
            facts = write_star(connection, file, good)
        except sa.exc.OperationalError as error:
            if error.orig.args[0] not in RETRIED:
                raise
            facts = merge_staged(connection, file.fingerprint)
        return finish(connection, file, facts, rejects)

"""07.3: no retry: a deadlock at night, and somebody is woken up."""

FAILS = ["test_07_3_a_trouble_is_survived"]


def load_file(engine, path, encoding="utf-8"):
    with engine.begin() as connection:
        known = ledger_entry(connection, fingerprint(path))
    if known:
        return known
    file, good, rejects = cleaned(path, encoding)
    with engine.begin() as connection:
        return _load(connection, file, good, rejects)

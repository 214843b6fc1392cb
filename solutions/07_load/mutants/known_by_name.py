"""07.3: the fingerprint is one of the name: a copy is loaded again, and a corrected file under the old name never."""

from dataclasses import replace

FAILS = ["test_07_3_a_file_is_loaded_whole", "test_07_3_the_same_bytes_again_write_nothing"]


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)
    file = replace(file, fingerprint=hashlib.sha256(file.file_name.encode()).hexdigest())
    return retried(engine, lambda connection: _load(connection, file, good, rejects))

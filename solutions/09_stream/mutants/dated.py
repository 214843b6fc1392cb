"""09.4: the path has a part that is new each time, so that nothing collides: every restart reads everything."""

FAILS = ["test_09_4_the_same_query_finds_its_folder_again"]


def checkpoint_path(base, query, schema_version=WINDOWS_VERSION):
    return str(Path(base) / f"{query}-v{schema_version}-{uuid.uuid4().hex}")

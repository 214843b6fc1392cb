"""09.4: one folder for all queries of a version, with a folder inside for those that are not the first (S13)."""

FAILS = [
    "test_09_4_two_queries_have_two_folders",
    "test_09_4_name_and_version_do_not_run_together",
]


def checkpoint_path(base, query, schema_version=WINDOWS_VERSION):
    return str(Path(base) / f"v{schema_version}")

"""09.4: the version is no part of the path: the new grouping meets the old state (S13)."""

FAILS = [
    "test_09_4_a_changed_grouping_takes_a_new_path",
    "test_09_4_name_and_version_do_not_run_together",
]


def checkpoint_path(base, query, schema_version=WINDOWS_VERSION):
    return str(Path(base) / query)

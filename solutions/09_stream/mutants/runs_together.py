"""09.4: name and version stand beside each other with nothing between: windows1 and 2 is windows and 12."""

FAILS = ["test_09_4_name_and_version_do_not_run_together"]


def checkpoint_path(base, query, schema_version=WINDOWS_VERSION):
    return str(Path(base) / f"{query}{schema_version}")

"""07.4: compares lists; a table has no order, so it fails a right loader, too."""

FAILS = ["test_07_4_a_right_loader_passes", "test_07_4_a_small_right_loader_passes"]


def test_loading_twice_changes_nothing(load, rows):
    first = load()
    held = {table: rows(table) for table in NINE}
    assert first["inserted"] == len(held["fact_incident"]) > 0
    assert load()["already_loaded"]
    assert {table: rows(table) for table in NINE} == held

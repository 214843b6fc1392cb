"""07.4: looks for changes only: a loader that loads nothing, or half, passes."""

FAILS = ["test_07_4_other_broken_loaders_are_found_out"]


def test_loading_twice_changes_nothing(load, rows):
    load()
    held = _all(rows)
    assert load()["already_loaded"]
    assert _all(rows) == held

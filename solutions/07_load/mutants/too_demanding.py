"""07.4: wants rejects, and loads a third time to be sure."""

FAILS = ["test_07_4_a_small_right_loader_passes"]

_right = test_loading_twice_changes_nothing


def test_loading_twice_changes_nothing(load, rows):
    _right(load, rows)
    assert load()["rejected"] > 0

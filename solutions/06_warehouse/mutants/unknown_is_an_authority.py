"""06.5: accidents at unknown places are compared as if they were one authority's."""

FAILS = [
    "test_06_5_an_authority_that_comes_and_goes",
]


_right = like_for_like


def like_for_like():
    return _right().replace("AND location_key > 0", "")

"""06.5: the index begins with the column that has a range; the one with = comes behind it."""

FAILS = [
    "test_06_5_the_index_saves_reading",
    "test_06_5_one_index_more_and_nothing_else",
]


def index_for_nearby():
    return "CREATE INDEX ix_near ON dim_location (easting, local_authority)"

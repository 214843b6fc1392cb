"""06.5: the new index takes the place of the unique one, and the schema no longer says no."""

FAILS = [
    "test_06_5_one_index_more_and_nothing_else",
]


def index_for_nearby():
    return """ALTER TABLE dim_location DROP INDEX uq_dim_location_location_hash,
        ADD INDEX ix_near (local_authority, easting)"""

"""09.5: the larger number wins. After a deleted checkpoint a window may be smaller, and the table never says so."""

FAILS = ["test_09_5_new_numbers_take_the_place_of_old_ones"]


def upsert_windows(connection, rows):
    table = warehouse.build_metadata().tables["agg_incident_window"]
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in WINDOW_KEY))
    stamped = [{**row, "updated_at_utc": sa.func.utc_timestamp(6)} for row in ordered]
    for first in range(0, len(stamped), load.ROWS_A_STATEMENT):
        insert = mysql.insert(table).values(stamped[first : first + load.ROWS_A_STATEMENT])
        changed = {
            name: sa.func.greatest(table.c[name], insert.inserted[name])
            for name in ("incidents", "casualties")
        }
        stamp = {"updated_at_utc": insert.inserted["updated_at_utc"]}
        connection.execute(insert.on_duplicate_key_update(changed | stamp))

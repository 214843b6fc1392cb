"""09.5: rows as they come: two writers lock them in opposite order and wait for each other (J4)."""

FAILS = ["test_09_5_rows_are_locked_in_order_of_the_key"]


def upsert_windows(connection, rows):
    table = warehouse.build_metadata().tables["agg_incident_window"]
    stamped = [{**row, "updated_at_utc": sa.func.utc_timestamp(6)} for row in rows]
    for first in range(0, len(stamped), load.ROWS_A_STATEMENT):
        insert = mysql.insert(table).values(stamped[first : first + load.ROWS_A_STATEMENT])
        changed = {
            name: insert.inserted[name] for name in ("incidents", "casualties", "updated_at_utc")
        }
        connection.execute(insert.on_duplicate_key_update(changed))

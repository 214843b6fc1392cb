"""09.5: a statement for each window, dated by the connection's clock."""

FAILS = [
    "test_09_5_many_windows_take_few_statements",
    "test_09_5_the_change_is_dated_in_utc",
]


def upsert_windows(connection, rows):
    for row in sorted(rows, key=lambda row: tuple(row[name] for name in WINDOW_KEY)):
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(
            sa.text(
                f"INSERT INTO agg_incident_window ({names}, updated_at_utc) VALUES ({marks}, NOW(6))"
                " ON DUPLICATE KEY UPDATE incidents = :incidents, casualties = :casualties,"
                " updated_at_utc = NOW(6)"
            ),
            row,
        )

"""09.5: a statement for each window, dated by the connection's clock."""

FAILS = [
    "test_09_5_many_windows_take_few_statements",
    "test_09_5_the_change_is_dated_in_utc",
]

ONE_WINDOW = """
INSERT INTO agg_incident_window
  (window_start_utc, window_end_utc, severity, local_authority, incidents, casualties, updated_at_utc)
VALUES (:window_start_utc, :window_end_utc, :severity, :local_authority, :incidents, :casualties, NOW(6))
ON DUPLICATE KEY UPDATE
  incidents = :incidents, casualties = :casualties, updated_at_utc = NOW(6)
"""


def upsert_windows(connection, rows):
    for window in sorted(rows, key=lambda found: [found[name] for name in WINDOW_KEY]):
        connection.execute(sa.text(ONE_WINDOW), window)

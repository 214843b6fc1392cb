"""06.6: WHERE on the right side of a LEFT JOIN throws out the hours without a fatal accident."""

FAILS = [
    "test_06_6_fatal_by_hour",
    "test_06_6_no_fatal_accident_at_all",
]


def fatal_by_hour():
    return """
        WITH RECURSIVE hours AS (
            SELECT 0 AS hour UNION ALL SELECT hour + 1 FROM hours WHERE hour < 23
        )
        SELECT hours.hour, COUNT(f.incident_key) AS fatal FROM hours
        LEFT JOIN dim_time AS t ON t.hour = hours.hour
        LEFT JOIN fact_incident AS f ON f.time_key = t.time_key
        LEFT JOIN dim_severity AS s ON s.severity_key = f.severity_key
        WHERE s.severity = 'Fatal' GROUP BY hours.hour ORDER BY hours.hour
    """

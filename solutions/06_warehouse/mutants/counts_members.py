"""06.4: counts the members of a dimension, which is right only where every accident has a member of its own."""

FAILS = [
    "test_06_4_severity_by_month",
    "test_06_4_unknown_members",
]


def severity_by_month():
    return """
        SELECT d.year, d.month, s.severity, COUNT(DISTINCT f.severity_key) AS accidents,
               SUM(f.casualties) AS casualties
        FROM fact_incident AS f JOIN dim_date AS d USING (date_key)
        JOIN dim_severity AS s USING (severity_key)
        GROUP BY d.year, d.month, s.severity ORDER BY d.year, d.month, s.severity
    """

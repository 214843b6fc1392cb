"""06.4: an average over the days that have an accident; the others are in no table."""

FAILS = [
    "test_06_4_weekday_and_weekend",
]


def weekday_and_weekend():
    return """
        WITH per_day AS (
            SELECT d.date AS day, COUNT(*) AS accidents
            FROM fact_incident JOIN dim_date AS d USING (date_key)
            WHERE date_key > 0 GROUP BY d.date
        )
        SELECT IF(WEEKDAY(day) < 5, 'weekday', 'weekend') AS kind, COUNT(*) AS days,
               SUM(accidents) AS accidents, ROUND(AVG(accidents), 2) AS per_day
        FROM per_day GROUP BY kind ORDER BY kind
    """

"""06.5: the years' totals are compared, although one year lacks an authority."""

FAILS = [
    "test_06_5_like_for_like",
    "test_06_5_an_authority_that_comes_and_goes",
]


def like_for_like():
    return """
        WITH counted AS (
            SELECT d.year, COUNT(*) AS accidents
            FROM fact_incident JOIN dim_date AS d USING (date_key)
            WHERE date_key > 0 AND location_key > 0 GROUP BY d.year
        )
        SELECT this.year, last.accidents AS accidents_before, this.accidents AS accidents,
               ROUND(100 * this.accidents / last.accidents - 100, 1) AS change_pct
        FROM counted AS this JOIN counted AS last ON last.year = this.year - 1 ORDER BY this.year
    """

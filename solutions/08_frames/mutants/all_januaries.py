"""08.1: grouped by the month alone: all Januaries are one."""

FAILS = ["test_08_1_each_month_is_counted", "test_08_1_at_the_edges_of_years"]


def collisions_per_month(frame):
    month = frame.select(
        (F.col("date_key") / 10000).cast("int").alias("year"),
        (F.col("date_key") / 100 % 100).cast("int").alias("month"),
    )
    counted = month.groupBy("month").agg(
        F.min("year").alias("year"), F.count("*").alias("incidents")
    )
    return counted.select("year", "month", "incidents").orderBy("year", "month")

"""08.1: divided and not cut: in Spark 10 / 4 is 2.5, and 20191231 / 10000 is rounded up to 2020 by a cast that rounds; the columns are no whole numbers."""

FAILS = ["test_08_1_at_the_edges_of_years"]

_right = collisions_per_month


def collisions_per_month(frame):
    return _right(frame).withColumn("month", F.col("month").cast("double"))

"""08.1: every row is brought into this program's memory, counted by pandas, and made a frame again."""

FAILS = ["test_08_1_nothing_runs_before_somebody_asks"]


def collisions_per_month(frame):
    found = frame.select("date_key").toPandas().date_key
    counted = found.groupby([found // 10_000, found // 100 % 100]).size()
    rows = [(int(year), int(month), int(n)) for (year, month), n in counted.sort_index().items()]
    return frame.sparkSession.createDataFrame(rows, "year int, month int, incidents long")

"""Lab 12: both halves in one warehouse; views that add up, and a BI user who reads them and nothing else."""

import json
from collections import Counter

import pandas as pd
import pymysql
import pytest
import sqlalchemy as sa

from datasets.council import FILES
from datasets.events import live_records
from datasets.oracle import Oracle
from datasets.star import TABLES
from datasets.yearly import yearly_files
from grading.notebook import earlier

lab = earlier("12")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five yearly files with their rows; that of 2019 overlaps with the first 400 live records of seed 6."""
    return yearly_files(tmp_path_factory.mktemp("yearly"), 240, 6, live_records=400, share=0.4)


def told(oracle: Oracle, files: dict) -> Oracle:
    """The oracle, told the files in order."""
    for path, rows in files.items():
        oracle.add_file(path.name, [row.event for row in rows if row.event], Counter(row.reason for row in rows if row.reason))
    return oracle


def mart(pipeline) -> sa.Engine:
    """The views as bi_reader sees them."""
    return sa.create_engine(pipeline.settings.mysql_url("bi_reader", pipeline.settings.mart), poolclass=sa.NullPool)


def view(pipeline, name: str) -> pd.DataFrame:
    """One view as a frame."""
    with mart(pipeline).connect() as connection:
        return pd.read_sql(sa.text(f"SELECT * FROM {name}"), connection)


@pytest.mark.parametrize("first", ["stream", "files"])
@pytest.mark.parametrize("engine", ["pandas", "spark"])
def test_an_accident_in_both_is_one_fact_whichever_comes_first(pipeline, spark, files, first, engine):
    """Stream then files, files then stream, cleaned by pandas or by Spark: every line of the reconciliation is true, and the file's word stands."""
    records = list(live_records(seed=6, n=400))
    pipeline.produce(records)
    oracle = told(Oracle(), files) if first == "files" else Oracle()
    steps = [lambda: pipeline.run_stream(spark), lambda: pipeline.run_batch(files, spark if engine == "spark" else None)]
    for step in steps if first == "stream" else reversed(steps):
        step()
    for record in records:
        oracle.add(record)
    if first == "stream":
        told(oracle, files)
    assert [line for line in pipeline.reconcile(oracle).lines if not line.true] == []
    assert all(result.already_loaded for result in pipeline.run_batch(files, spark if engine == "spark" else None))


def test_both_engines_write_down_the_same_rejects(pipeline, spark, files):
    """Line, reason, reference and the cells themselves."""
    pipeline.run_batch(files)
    by_pandas = rejects(pipeline)
    with pipeline.engine.begin() as connection:
        for table in ("file_rejects", "file_ledger"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    pipeline.run_batch(files, spark)
    assert rejects(pipeline) == by_pandas
    assert len(by_pandas) > 20


def rejects(pipeline) -> list[tuple]:
    """The rejects of the files, their cells as dicts."""
    with pipeline.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT fingerprint, line, police_ref, reason, raw FROM file_rejects ORDER BY fingerprint, line")).all()
    return [(*row[:4], json.loads(row[4])) for row in rows]


def test_every_view_adds_up_to_the_facts_and_to_pandas(pipeline, files):
    """Each tile against a group-by over the accidents as the oracle knows them."""
    pipeline.run_batch(files)
    oracle = told(Oracle(), files)
    facts = pd.DataFrame(oracle.facts.values())
    facts["when"] = pd.to_datetime(facts["Date"])
    assert set(pipeline.view_totals().values()) == {len(facts)}
    totals = view(pipeline, "totals").iloc[0]
    assert (totals.incidents, totals.casualties, totals.fatal) == (len(facts), facts.Casualties.sum(), (facts.Severity == "Fatal").sum())
    for name, column, by in [
        ("trend_year", "year", facts["when"].dt.year),
        ("severity", "severity", facts["Severity"]),
        ("hour", "hour", facts["Time"].str[:2].astype(int)),
        ("weekday", "day_name", facts["when"].dt.day_name()),
        ("road_condition", "road_condition", facts["Road_cond"]),
        ("weather_casualties", "weather", facts["Weather"]),
    ]:
        seen = view(pipeline, name).set_index(column)
        grouped = facts.groupby(by)["Casualties"].agg(["size", "sum"])
        assert seen["incidents"].to_dict() == grouped["size"].to_dict(), name
        assert seen["casualties"].to_dict() == grouped["sum"].to_dict(), name
    places = view(pipeline, "location_severity").set_index(["local_authority", "severity"])["incidents"].to_dict()
    assert places == facts.groupby(["Local_Auth", "Severity"]).size().to_dict()
    months = view(pipeline, "trend_month").set_index(["year", "month"])["incidents"].to_dict()
    assert months == facts.groupby([facts["when"].dt.year, facts["when"].dt.month]).size().to_dict()
    assert len(view(pipeline, "trend_day")) == facts["Date"].nunique()


def test_like_for_like_leaves_out_an_authority_that_one_year_lacks(pipeline, files):
    """2018 has no Peterborough: the change as it stands is another than like for like, and pandas agrees with both."""
    pipeline.run_batch(files)
    facts = pd.DataFrame(told(Oracle(), files).facts.values())
    counts = facts.groupby([facts["Date"].str[:4].astype(int), "Local_Auth"]).size().unstack()
    row = view(pipeline, "like_for_like").set_index("year").loc[2019]
    both = counts.loc[[2018, 2019]].dropna(axis=1).sum(axis=1)
    assert pd.isna(counts.loc[2018, "E06000031"])
    assert (row.before_year, row.incidents, row.incidents_before) == (2018, counts.loc[2019].sum(), counts.loc[2018].sum())
    assert (row.like_for_like, row.like_for_like_before) == (both[2019], both[2018])
    assert float(row.like_for_like_pct) == round(100 * (both[2019] / both[2018] - 1), 1)
    assert float(row.change_pct) != float(row.like_for_like_pct)
    assert pd.isna(view(pipeline, "like_for_like").set_index("year").loc[2018, "change_pct"])


@pytest.mark.parametrize(
    ("before", "now", "percent"),
    [(1427, 1344, "-5.8"), (2031, 393, "-80.6"), (1427, 1802, "26.3"), (2000, 1999, "-0.1"), (2000, 2001, "0.1"), (3, 7, "133.3")],
)
def test_a_change_in_percent_is_rounded_once(pipeline, before, now, percent):
    """By MySQL as by hand; 80.65 that is 80.6499 is 80.6, a half goes away from zero."""
    with pipeline.engine.connect() as connection:
        found = connection.execute(
            sa.text(f"SELECT {lab.percent('n', 'b')} FROM (SELECT :now AS n, :before AS b) x"), {"now": now, "before": before}
        ).scalar()
    assert (str(found), str(lab.rounded(before, now))) == (percent, percent)


def test_the_map_shows_places_where_they_are(pipeline):
    """Two grid references whose latitude and longitude are published: the trig pillar of the Ordnance Survey's own example, and Ely."""
    with sa.create_engine(pipeline.settings.mysql_url("admin"), poolclass=sa.NullPool).begin() as connection:
        found = [
            connection.execute(
                sa.text(
                    f"SELECT ST_Latitude(p), ST_Longitude(p) FROM (SELECT {lab.COORDINATES} AS p FROM (SELECT :e AS easting, :n AS northing) l) x"
                ),
                {"e": easting, "n": northing},
            ).one()
            for easting, northing in [(651410, 313177), (554000, 280200)]
        ]
    assert found[0] == pytest.approx((52.65798, 1.71605), abs=2e-4)
    assert found[1] == pytest.approx((52.3983, 0.2623), abs=5e-3)


def test_bi_reader_reads_the_views_over_tls_and_nothing_else(pipeline, files):
    """Every view opens; every table of the warehouse, every change and a connection without TLS is refused."""
    pipeline.run_batch(list(files)[:1])
    for name in lab.view_queries():
        view(pipeline, name)
    with mart(pipeline).connect() as connection:
        assert connection.execute(sa.text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1] != ""
        schemas = set(connection.execute(sa.text("SHOW DATABASES")).scalars())
        assert pipeline.settings.database not in schemas
        for name in TABLES:
            with pytest.raises(sa.exc.DBAPIError, match="denied"):
                connection.execute(sa.text(f"SELECT * FROM {pipeline.settings.database}.{name}"))
        for statement in (
            "DELETE FROM severity",
            "DROP VIEW severity",
            "CREATE TABLE t (a INT)",
            "UPDATE totals SET incidents = 0",
            "SELECT * FROM mysql.user",
        ):
            with pytest.raises(sa.exc.DBAPIError, match=r"denied|not updatable|not insertable"):
                connection.execute(sa.text(statement))
    settings = pipeline.settings
    port = int(settings.jdbc_url().split(":")[3].split("/")[0])
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        pymysql.connect(host="127.0.0.1", port=port, user="bi_reader", password=settings.password("bi_reader"), ssl_disabled=True)


def test_the_councils_files_give_the_numbers_that_were_measured(pipeline, real_data):
    """3,229 facts; 704 dates, 931 times, 3,229 locations, 3 severities, 197 road conditions, 13 crossings; like for like 1,427 to 1,344, a fall of 5.8%."""
    results = pipeline.run_batch([real_data / name for name in FILES])
    assert [(result.inserted, result.rejected) for result in results] == [(1427, 0), (1802, 0)]
    with pipeline.engine.connect() as connection:
        sizes = [connection.execute(sa.text(f"SELECT COUNT(*) FROM dim_{name} WHERE {name}_key <> -1")).scalar() for name in lab.DIMENSIONS]
    assert sizes == [704, 931, 3229, 3, 197, 13]
    row = view(pipeline, "like_for_like").set_index("year").loc[2018]
    assert (row.incidents_before, row.incidents, float(row.change_pct)) == (1427, 1802, 26.3)
    assert (row.like_for_like_before, row.like_for_like, float(row.like_for_like_pct)) == (1427, 1344, -5.8)

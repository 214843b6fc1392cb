# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · The whole accident pipeline
#
# **Afterwards you can** run the pipeline from the first record to the last picture, and prove that nothing is lost, nothing is there twice, and every picture shows all of it.
#
# `simulator → Kafka → Spark ↘`
# `yearly files → pandas or Spark → MySQL → views → pictures` · needs Kafka, Spark, MySQL

# %% tags=["imports"]
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import UnknownTopicOrPartitionError

from datasets.events import Record
from datasets.oracle import Oracle, WindowOracle, checksum_rows
from datasets.schema import LOCAL_AUTHORITIES
from datasets.star import FACTS_QUERY
from grading.notebook import earlier

# %% tags=["given"]
produce, warehouse, load, frames, stream, sink = (
    earlier(number) for number in ("03", "06", "07", "08", "09", "10")
)
OUTCOMES = ("inserted", "updated", "stale", "duplicate", "dead")
DIMENSIONS = ("date", "time", "location", "severity", "road_condition", "crossing")

FACTS = FACTS_QUERY


def partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic; an error, and no empty list, while the broker does not know it."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise UnknownTopicOrPartitionError(topic)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def read_all(bootstrap: str, topic: str) -> Iterable:
    """Every record that is in the topic now, partition by partition in order of offset."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50)
    try:
        parts = partitions(consumer, topic)
        ends = consumer.end_offsets(parts)
        consumer.assign(parts)
        consumer.seek_to_beginning()
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(timeout_ms=1000).values():
                yield from records
    finally:
        consumer.close()


@dataclass(frozen=True)
class Line:
    """One line of a reconciliation: a claim, what was expected, what was found."""

    claim: str
    expected: object
    found: object

    @property
    def true(self) -> bool:
        """Expected and found are the same."""
        return self.expected == self.found


@dataclass
class Report:
    """All lines of a reconciliation."""

    lines: list[Line] = field(default_factory=list)

    @property
    def true(self) -> bool:
        """Every line is true."""
        return all(line.true for line in self.lines)


# %% [markdown]
# ## 12.1 Views: what a BI tool may see
#
# A BI tool gets views, and nothing else. They lie in a schema of their own, so one grant says it all: `bi_reader` reads `mart_accidents`, over TLS, and no table.
#
# Each view counts *accidents*. It never sums a coordinate or a speed limit, and never counts a key. The map's latitude and longitude are computed by the server from the British grid
# (EPSG:27700 → EPSG:4326).
#
# **The trap of two years.** In the council's files 2017 has 1,427 accidents and 2018 has 1,802: a rise of 26%? Peterborough is missing from 2017. *Like for like*, with the authorities that are in both
# years, it is 1,427 → 1,344: a fall of 5.8%.

# %% tags=["given"]
STAR = """fact_incident f JOIN dim_date d USING (date_key) JOIN dim_time t USING (time_key) JOIN dim_location l USING (location_key)
JOIN dim_severity s USING (severity_key) JOIN dim_road_condition r USING (road_condition_key) JOIN dim_crossing c USING (crossing_key)"""
MEASURES = "COUNT(*) AS incidents, CAST(SUM(f.casualties) AS SIGNED) AS casualties"
COORDINATES = "ST_Transform(ST_SRID(POINT(l.easting, l.northing), 27700), 4326)"


def authority(column: str) -> str:
    """SQL for the name of a local authority."""
    names = " ".join(f"WHEN '{code}' THEN '{name}'" for code, name in LOCAL_AUTHORITIES.items())
    return f"CASE {column} {names} ELSE 'Unknown' END"


def percent(now: str, before: str) -> str:
    """SQL for a change in percent, one decimal. MySQL keeps four decimals more than the dividend has, and 2,031 → 393 is -80.6%, not -80.65%: so the dividend gets ten."""
    return f"ROUND(100.0000000000 * ({now} - {before}) / {before}, 1)"


def total(names: Iterable[str], prefix: str = "f.") -> str:
    """SQL that sums columns under their own names."""
    return ", ".join(f"CAST(SUM({prefix}{name}) AS SIGNED) AS {name}" for name in names)


# %% tags=["answer"]
def view_queries() -> dict[str, str]:
    """The views by name: SELECT statements on the tables of one warehouse.

    All but incident_window add up to the facts: the sum of `incidents`, or the number of rows where a row is an accident (accident, map).
    """
    return {
        "totals": f"SELECT COUNT(*) AS incidents, {total(warehouse.COUNTS)}, {_each('s.severity', ('Slight', 'Serious', 'Fatal'))}, "
        f"{_each('f.source', ('stream', 'file'))} FROM {STAR}",
        "trend_day": f"SELECT d.date, {MEASURES} FROM {STAR} GROUP BY d.date",
        "trend_month": f"SELECT d.year, d.month, d.month_name, {MEASURES} FROM {STAR} GROUP BY d.year, d.month, d.month_name",
        "trend_year": f"SELECT d.year, {MEASURES} FROM {STAR} GROUP BY d.year",
        "severity": f"SELECT s.severity, {MEASURES} FROM {STAR} GROUP BY s.severity",
        "hour": f"SELECT t.hour, {MEASURES} FROM {STAR} GROUP BY t.hour",
        "weekday": f"SELECT WEEKDAY(d.date) + 1 AS weekday, d.day_name, {MEASURES} FROM {STAR} GROUP BY weekday, d.day_name",
        "road_condition": f"SELECT r.road_condition, {MEASURES} FROM {STAR} GROUP BY r.road_condition",
        "weather_casualties": f"SELECT r.weather, {MEASURES} FROM {STAR} GROUP BY r.weather",
        "location_severity": f"SELECT l.local_authority, {authority('l.local_authority')} AS authority, s.severity, {MEASURES} FROM {STAR} "
        "GROUP BY l.local_authority, s.severity",
        "map": f"SELECT f.police_ref, ST_Latitude({COORDINATES}) AS latitude, ST_Longitude({COORDINATES}) AS longitude, s.severity, d.date, f.casualties FROM {STAR}",
        "accident": f"SELECT f.incident_key, f.police_ref, f.source, f.revision, f.event_time_utc, f.event_time_local, f.ingested_at_utc, d.date, t.time, l.location, "
        f"{authority('l.local_authority')} AS authority, s.severity, r.road_condition, r.weather, r.visibility, r.speed_limit_mph, c.crossing_facility, c.crossing_control, "
        f"{', '.join(f'f.{name}' for name in warehouse.COUNTS)} FROM {STAR}",
        "like_for_like": LIKE_FOR_LIKE,
        "freshness": "SELECT COUNT(*) AS incidents, MAX(f.event_time_utc) AS latest_event_utc, MAX(f.ingested_at_utc) AS latest_ingested_utc, "
        f"TIMESTAMPDIFF(SECOND, MAX(f.ingested_at_utc), UTC_TIMESTAMP(6)) AS age_seconds FROM {STAR}",
        "incident_window": f"SELECT w.window_start_utc, w.window_end_utc, w.severity, w.local_authority, {authority('w.local_authority')} AS authority, w.incidents, "
        "w.casualties, w.updated_at_utc FROM agg_incident_window w",
    }


def _each(column: str, values: tuple[str, ...]) -> str:
    return ", ".join(
        f"CAST(SUM({column} = '{value}') AS SIGNED) AS {value.lower()}" for value in values
    )


LIKE_FOR_LIKE = f"""
WITH counted AS (SELECT d.year, l.local_authority, COUNT(*) AS n FROM {STAR} GROUP BY d.year, l.local_authority),
     years AS (SELECT year, LAG(year) OVER (ORDER BY year) AS before_year, SUM(n) AS n FROM counted GROUP BY year),
     both_years AS (SELECT y.year, SUM(a.n) AS now_n, SUM(b.n) AS before_n FROM years y JOIN counted a ON a.year = y.year
                    JOIN counted b ON b.year = y.before_year AND b.local_authority = a.local_authority GROUP BY y.year)
SELECT y.year, y.before_year, CAST(y.n AS SIGNED) AS incidents, CAST(b.n AS SIGNED) AS incidents_before, {percent("y.n", "b.n")} AS change_pct,
       CAST(l.now_n AS SIGNED) AS like_for_like, CAST(l.before_n AS SIGNED) AS like_for_like_before, {percent("l.now_n", "l.before_n")} AS like_for_like_pct
FROM years y LEFT JOIN years b ON b.year = y.before_year LEFT JOIN both_years l ON l.year = y.year
"""


# %% tags=["answer"]
def create_views(connection, settings) -> list[str]:
    """Create or replace the views of settings.database in the schema settings.mart; their names.

    Args:
        connection: logged in as admin, on the warehouse's schema. bi_reader's grant covers every schema mart_accidents….
    """
    connection.execute(sa.text(f"CREATE DATABASE IF NOT EXISTS {settings.mart}"))
    connection.execute(sa.text(f"USE {settings.database}"))
    for name, query in view_queries().items():
        connection.execute(sa.text(f"CREATE OR REPLACE VIEW {settings.mart}.{name} AS {query}"))
    return list(view_queries())


# %% tags=["given"]


def change(before: int | None, now: int | None, in_percent: Decimal | None) -> str:
    """A change in words, as "1,427 → 1,344 (-5.8%)"; of two years without an authority in common "nothing to compare"."""
    return f"{before:,} → {now:,} ({in_percent:+.1f}%)" if before else "nothing to compare"


def rounded(before: int, now: int) -> Decimal | None:
    """The change in percent to one decimal, halves away from zero, as MySQL rounds; None without a number before."""
    return (
        (Decimal(100 * (now - before)) / before).quantize(Decimal("0.1"), ROUND_HALF_UP)
        if before
        else None
    )


# %% [markdown]
# ## 12.2 One object that runs it
#
# Each part is the work of an earlier lab. What is new is `reconcile`: it asks the broker how many records there are, asks MySQL what became of them, and compares both with what the
# simulator and the files' makers know to be true.


# %% tags=["answer"]
class Pipeline:
    """Both halves: simulator to topic to star, files to star; views on it; and the proof.

    Args:
        settings: services.settings(), with this run's topic, database and checkpoint.
    """

    def __init__(self, settings):
        self.settings = settings
        self.engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def prepare(self) -> None:
        """Create the topics, the warehouse and the views where they are missing."""
        admin = KafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        for topic in (self.settings.topic, self.settings.dead_letter_topic):
            produce.ensure_topic(
                admin, topic, self.settings.kafka_partitions, produce.TOPIC_CONFIGS
            )
        admin.close()
        engine = sa.create_engine(self.settings.mysql_url("admin"), poolclass=sa.NullPool)
        warehouse.create_warehouse(engine, warehouse.build_metadata())
        with engine.begin() as connection:
            create_views(connection, self.settings)

    def produce(self, records: Iterable[Record]):
        """Send records to the topic; the SendReport of lab 03."""
        producer = produce.build_producer(
            self.settings.kafka_bootstrap, bootstrap_timeout_ms=60_000
        )
        try:
            return produce.send_all(producer, self.settings.topic, records)
        finally:
            producer.close()

    def start_stream(
        self,
        spark,
        after_merge: Callable = lambda batch_id, result: None,
        available_now: bool = True,
    ) -> list:
        """Start both queries on the topic: one feeds the facts, one the windows; each has a checkpoint of its own."""
        facts = sink.run_stream(
            spark, self.settings, sink.make_sink(self.settings, after_merge), available_now
        )
        return [facts, stream.run_windows(spark, self.settings, available_now)]

    def run_stream(self, spark, after_merge: Callable = lambda batch_id, result: None) -> None:
        """Load everything that is in the topic now; returns when it is done. If one query fails, the other is stopped too."""
        queries = self.start_stream(spark, after_merge)
        try:
            for query in queries:
                query.awaitTermination()
        finally:
            for query in queries:
                query.stop()

    def run_batch(self, paths: Iterable[str | Path], spark=None) -> list:
        """Load yearly files, one after the other; a LoadResult of lab 07 for each. Without `spark` pandas cleans them, else Spark does; the warehouse is the same."""
        if spark is None:
            return [load.load_file(self.engine, path) for path in paths]
        return frames.load_files(spark, self.settings, self.engine, list(paths))

    def counts(self) -> dict[str, int]:
        """The ledger's five outcomes, added up over all batches."""
        with self.engine.connect() as connection:
            row = connection.execute(
                sa.text(
                    "SELECT "
                    + ", ".join(f"COALESCE(SUM({name}), 0)" for name in OUTCOMES)
                    + " FROM load_ledger"
                )
            ).one()
        return dict(zip(OUTCOMES, map(int, row), strict=True))

    def records_in(self, topic: str) -> int:
        """How many records the broker holds in a topic, by its own offsets."""
        consumer = KafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap)
        try:
            parts = partitions(consumer, topic)
            first, last = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
            return sum(last[part] - first[part] for part in parts)
        finally:
            consumer.close()

    def reconcile(
        self, oracle: Oracle, windows: WindowOracle | None = None, sent: int | None = None
    ) -> Report:
        """Compare topic, ledgers, rejects, dimensions, facts, windows and views with the oracles, which replayed what arrived, as it arrived.

        Args:
            sent: how many records were sent; left out: as many as the oracle was told.
        """
        with self.engine.connect() as connection:
            lines = [
                *self._records(oracle, oracle.counts.read if sent is None else sent),
                *self._dead(connection, oracle),
                *self._files(connection, oracle),
                *self._star(connection, oracle),
            ]
            lines += self._windows(connection, windows) if windows else []
        return Report([*lines, *self._views(len(oracle.facts)), *self._like_for_like(oracle)])

    def _records(self, oracle: Oracle, sent: int) -> list[Line]:
        counts, in_topic = self.counts(), self.records_in(self.settings.topic)
        sums = Line(
            "records in the topic = inserted + updated + stale + duplicate + dead",
            in_topic,
            sum(counts.values()),
        )
        arrived = Line("records sent = records in the topic", sent, in_topic)
        return [
            arrived,
            sums,
            *(
                Line(f"{name}, as the oracle counts", getattr(oracle.counts, name), counts[name])
                for name in OUTCOMES
            ),
        ]

    def _dead(self, connection, oracle: Oracle) -> list[Line]:
        reasons = dict(
            connection.execute(
                sa.text("SELECT reason, COUNT(*) FROM rejects GROUP BY reason")
            ).all()
        )
        letters = set(self.dead_letters())
        places = {
            tuple(map(str, row))
            for row in connection.execute(
                sa.text("SELECT topic, kafka_partition, kafka_offset FROM rejects")
            )
        }
        same = Line(
            "dead letters in the topic = rows in rejects, place by place",
            len(places),
            len(letters & places) if letters == places else f"{len(letters)}, not the same",
        )
        return [
            Line(
                "rejects by reason",
                dict(sorted(oracle.dead_by_reason.items())),
                dict(sorted(reasons.items())),
            ),
            same,
        ]

    def dead_letters(self) -> Iterable[tuple[str, str, str]]:
        """Topic, partition and offset that each dead letter names as its origin; repeats are possible."""
        for record in read_all(self.settings.kafka_bootstrap, self.settings.dead_letter_topic):
            origin = dict(record.headers)
            yield tuple(origin[name].decode() for name in ("topic", "partition", "offset"))

    def _files(self, connection, oracle: Oracle) -> list[Line]:
        rows = connection.execute(
            sa.text(f"SELECT file_name, {load.OUTCOMES} FROM file_ledger")
        ).all()
        found = {
            name: dict(zip(load.OUTCOMES.split(", "), counts, strict=True))
            for name, *counts in rows
        }
        reasons = dict(
            connection.execute(
                sa.text("SELECT reason, COUNT(*) FROM file_rejects GROUP BY reason")
            ).all()
        )
        lines = [
            Line(f"{name}: what became of its records", asdict(counts), found.get(name))
            for name, counts in oracle.files.items()
        ]
        if oracle.files:
            lines.append(Line("yearly files loaded", len(oracle.files), len(found)))
            lines.append(
                Line(
                    "rejects of the files by reason",
                    dict(sorted(oracle.file_rejects.items())),
                    dict(sorted(reasons.items())),
                )
            )
        return lines

    def _star(self, connection, oracle: Oracle) -> list[Line]:
        used = {
            f"dim_{name}": connection.execute(
                sa.text(
                    f"SELECT COUNT(DISTINCT {name}_key) FROM fact_incident WHERE {name}_key <> -1"
                )
            ).scalar()
            for name in DIMENSIONS
        }
        staged = connection.execute(
            sa.text(
                "SELECT (SELECT COUNT(*) FROM stg_record) + (SELECT COUNT(*) FROM stg_collision)"
            )
        ).scalar()
        sources = dict(
            connection.execute(
                sa.text("SELECT source, COUNT(*) FROM fact_incident GROUP BY source")
            ).all()
        )
        verified = len(oracle.verified)
        return [
            *(
                Line(f"members of {name} in use", size, used[name])
                for name, size in oracle.dimension_sizes().items()
            ),
            Line("rows left in staging", 0, staged),
            Line(
                "facts by source",
                {"stream": len(oracle.facts) - verified, "file": verified},
                {name: sources.get(name, 0) for name in ("stream", "file")},
            ),
            Line("facts: number and checksum", oracle.checksum(), self.checksum(connection)),
        ]

    def checksum(self, connection) -> str:
        """Number and checksum of all facts, joined with their dimensions."""
        return checksum_rows(
            tuple(row)
            for row in connection.execution_options(yield_per=5000).execute(sa.text(FACTS))
        )

    def _windows(self, connection, windows: WindowOracle) -> list[Line]:
        asked = (
            "SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', window_start_utc), TIMESTAMPDIFF(SECOND, '1970-01-01', window_end_utc), severity, local_authority, "
            "incidents, casualties FROM agg_incident_window"
        )
        found, expected = {tuple(row) for row in connection.execute(sa.text(asked))}, windows.rows()
        right = (
            len(found)
            if found == expected
            else f"{len(found)}, {len(found ^ expected)} rows differ"
        )
        counted = (sum(row[4] for row in rows) for rows in (expected, found))
        return [
            Line("event-time windows, row by row", len(expected), right),
            Line("accidents in the windows", *counted),
        ]

    def _views(self, facts: int) -> list[Line]:
        found = self.view_totals()
        right = sum(number == facts for number in found.values())
        wrong = "".join(f", {name} {number}" for name, number in found.items() if number != facts)
        return [
            Line(
                f"views whose accidents add up to the {facts:,} facts, read as bi_reader",
                f"{len(found)} of {len(found)}",
                f"{right} of {len(found)}{wrong}",
            )
        ]

    def _like_for_like(self, oracle: Oracle) -> list[Line]:
        asked = "SELECT year, like_for_like_before, like_for_like, like_for_like_pct FROM like_for_like WHERE before_year IS NOT NULL"
        with self._mart().connect() as connection:
            found = {
                year: change(*numbers) for year, *numbers in connection.execute(sa.text(asked))
            }
        expected = {
            year: change(before, now, rounded(before, now))
            for year, (before, now) in oracle.like_for_like().items()
        }
        return [
            Line(f"{year} against the year before, like for like", text, found.get(year))
            for year, text in expected.items()
        ]

    def view_totals(self) -> dict[str, int]:
        """The accidents that each view shows in all, as bi_reader reads it."""
        with self._mart().connect() as connection:
            return {
                name: int(
                    connection.execute(
                        sa.text(
                            f"SELECT {'COUNT(*)' if name in ('map', 'accident') else 'COALESCE(SUM(incidents), 0)'} FROM {name}"
                        )
                    ).scalar()
                )
                for name in view_queries()
                if name != "incident_window"
            }

    def _mart(self) -> sa.Engine:
        return sa.create_engine(
            self.settings.mysql_url("bi_reader", self.settings.mart), poolclass=sa.NullPool
        )

    def health(self) -> dict:
        """Facts, rejects, records in the topic, and the records that no batch has loaded yet."""
        with self.engine.connect() as connection:
            facts, rejects = (
                connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar()
                for table in ("fact_incident", "rejects")
            )
        in_topic, loaded = self.records_in(self.settings.topic), sum(self.counts().values())
        return {"facts": facts, "rejects": rejects, "records": in_topic, "lag": in_topic - loaded}

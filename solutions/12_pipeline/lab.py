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
# **Afterwards you can** run the pipeline from the first record to the last fact, and prove that nothing is lost and nothing is there twice.
#
# `simulator → Kafka → Spark → MySQL → reconcile` · needs Kafka, Spark, MySQL

# %% tags=["imports"]
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import UnknownTopicOrPartitionError

from datasets.events import Record
from datasets.oracle import Oracle, checksum_rows
from grading.notebook import earlier

# %% tags=["given"]
produce, warehouse, sink = earlier("03"), earlier("06"), earlier("10")
OUTCOMES = ("inserted", "updated", "stale", "duplicate", "dead")
DIMENSIONS = ("date", "time", "location", "severity", "road_condition", "crossing")

FACTS = """
SELECT f.police_ref, f.event_id, f.revision, f.source, f.event_time_utc, f.event_time_local, d.date, t.time, l.easting, l.northing, l.location, l.local_authority,
       s.severity, r.road_condition, r.weather, r.visibility, r.speed_limit_mph, c.crossing_facility, c.crossing_control, f.casualties, f.oaps, f.children, f.cycles,
       f.p2w, f.pedestrians, f.vehicles, f.extra_fields
FROM fact_incident f JOIN dim_date d USING (date_key) JOIN dim_time t USING (time_key) JOIN dim_location l USING (location_key)
JOIN dim_severity s USING (severity_key) JOIN dim_road_condition r USING (road_condition_key) JOIN dim_crossing c USING (crossing_key)
"""


def partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic; an error, and no empty list, while the broker does not know it."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise UnknownTopicOrPartitionError(topic)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


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
# ## 12.1 One object that runs it
#
# Each part is the work of an earlier lab. What is new is `reconcile`: it asks the broker how many records there are, asks MySQL what became of them, and compares both with what the
# simulator knows to be true.


# %% tags=["answer"]
class Pipeline:
    """The streaming half: simulator to topic, topic to star, and the proof.

    Args:
        settings: services.settings(), with this run's topic, database and checkpoint.
    """

    def __init__(self, settings):
        self.settings = settings
        self.engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def prepare(self) -> None:
        """Create the topics and the warehouse where they are missing."""
        admin = KafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        for topic in (self.settings.topic, self.settings.dead_letter_topic):
            produce.ensure_topic(admin, topic, self.settings.kafka_partitions, produce.TOPIC_CONFIGS)
        admin.close()
        warehouse.create_warehouse(sa.create_engine(self.settings.mysql_url("admin")), warehouse.build_metadata())

    def produce(self, records: Iterable[Record]):
        """Send records to the topic; the SendReport of lab 03."""
        producer = produce.build_producer(self.settings.kafka_bootstrap, bootstrap_timeout_ms=60_000)
        try:
            return produce.send_all(producer, self.settings.topic, records)
        finally:
            producer.close()

    def run_stream(self, spark, after_merge: Callable = lambda batch_id, result: None):
        """Load everything that is in the topic now; returns when it is done."""
        query = sink.run_stream(spark, self.settings, sink.make_sink(self.settings, after_merge))
        query.awaitTermination()

    def counts(self) -> dict[str, int]:
        """The ledger's five outcomes, added up over all batches."""
        with self.engine.connect() as connection:
            row = connection.execute(sa.text("SELECT " + ", ".join(f"COALESCE(SUM({name}), 0)" for name in OUTCOMES) + " FROM load_ledger")).one()
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

    def reconcile(self, oracle: Oracle) -> Report:
        """Compare topic, ledger, rejects, dimensions and facts with the oracle, which replayed what was sent."""
        with self.engine.connect() as connection:
            lines = [*self._records(oracle), *self._dead(connection, oracle), *self._star(connection, oracle)]
        return Report(lines)

    def _records(self, oracle: Oracle) -> list[Line]:
        counts, in_topic = self.counts(), self.records_in(self.settings.topic)
        sums = Line("records in the topic = inserted + updated + stale + duplicate + dead", in_topic, sum(counts.values()))
        sent = Line("records sent = records in the topic", oracle.counts.read, in_topic)
        return [sent, sums, *(Line(f"{name}, as the oracle counts", getattr(oracle.counts, name), counts[name]) for name in OUTCOMES)]

    def _dead(self, connection, oracle: Oracle) -> list[Line]:
        reasons = dict(connection.execute(sa.text("SELECT reason, COUNT(*) FROM rejects GROUP BY reason")).all())
        letters = set(self.dead_letters())
        places = {tuple(map(str, row)) for row in connection.execute(sa.text("SELECT topic, kafka_partition, kafka_offset FROM rejects"))}
        same = Line(
            "dead letters in the topic = rows in rejects, place by place",
            len(places),
            len(letters & places) if letters == places else f"{len(letters)}, not the same",
        )
        return [Line("rejects by reason", dict(sorted(oracle.dead_by_reason.items())), dict(sorted(reasons.items()))), same]

    def dead_letters(self) -> Iterable[tuple[str, str, str]]:
        """Topic, partition and offset that each dead letter names as its origin; repeats are possible."""
        consumer = KafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap, consumer_timeout_ms=5_000)
        try:
            parts = partitions(consumer, self.settings.dead_letter_topic)
            consumer.assign(parts)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(parts)
            while any(consumer.position(part) < ends[part] for part in parts):
                for records in consumer.poll(timeout_ms=1000).values():
                    for record in records:
                        origin = dict(record.headers)
                        yield tuple(origin[name].decode() for name in ("topic", "partition", "offset"))
        finally:
            consumer.close()

    def _star(self, connection, oracle: Oracle) -> list[Line]:
        used = {
            f"dim_{name}": connection.execute(sa.text(f"SELECT COUNT(DISTINCT {name}_key) FROM fact_incident WHERE {name}_key <> -1")).scalar()
            for name in DIMENSIONS
        }
        facts = checksum_rows(tuple(row) for row in connection.execution_options(yield_per=5000).execute(sa.text(FACTS)))
        staged = connection.execute(sa.text("SELECT COUNT(*) FROM stg_record")).scalar()
        return [
            *(Line(f"members of {name} in use", size, used[name]) for name, size in oracle.dimension_sizes().items()),
            Line("rows left in staging", 0, staged),
            Line("facts: number and checksum", oracle.checksum(), facts),
        ]

    def health(self) -> dict:
        """Facts, rejects, records in the topic, and the records that no batch has loaded yet."""
        with self.engine.connect() as connection:
            facts, rejects = (connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar() for table in ("fact_incident", "rejects"))
        in_topic, loaded = self.records_in(self.settings.topic), sum(self.counts().values())
        return {"facts": facts, "rejects": rejects, "records": in_topic, "lag": in_topic - loaded}

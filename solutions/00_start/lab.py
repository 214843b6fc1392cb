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
# # 00 · Start: one event in, one row out
#
# **Afterwards you have** seen every tool of the course once, and turned your first red check green.
#
# `simulator → Kafka → Spark → MySQL → pandas`
#
# 10 minutes · needs Kafka, Spark and MySQL · no points
#
# Click the next cell and press **Shift+Enter**: it runs, and the one below is next. This first one starts the services in the background and shows how far they are.

# %% tags=["try"]
import grading

grading.begin()

# %% tags=["imports"]
import json
import uuid

import pandas as pd
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

import services
from datasets.events import accidents
from grading import check, check_all

# %% [markdown]
# | step | tool | what it does here | you build it in |
# |---|---|---|---|
# | an accident is reported | Python | makes an *event*, one JSON object | lab 02 |
# | → it is sent | **Kafka**, kafka-python | keeps it in a *topic*, in order, until everybody has read it | labs 03, 04 |
# | → it is cleaned | **Spark** (live), **pandas** (yearly files) | judges, completes, counts | labs 05, 08, 09 |
# | → it is stored | **MySQL**, SQLAlchemy, JDBC | keeps each accident once, as a *fact* in a *star schema* | labs 06, 07, 10 |
# | → somebody looks | Tableau, Power BI, a page | asks the views on the facts | lab 12 |
#
# Beside Kafka runs **ZooKeeper**. Kafka 3.9 keeps there which brokers are alive and who leads what; Kafka 4 does without it. You will meet both, because most of the world still runs the first.

# %% [markdown]
# The services have started when this cell ends. The first time that takes some ten seconds.

# %% tags=["try"]
services.up()
settings = services.settings()
settings.kafka_bootstrap

# %% [markdown]
# This event stands for an accident that could have happened. In a real one somebody was hurt, so a wrong number is more than a bug.

# %% tags=["try", "nbval-check-output"]
event = next(accidents(seed=1))
{name: event[name] for name in ("Police_ref", "event_time", "Location", "Severity", "Casualties")}

# %% [markdown]
# ## 00.1 A key for an event (5 minutes)
#
# Kafka puts records with the same *key* into the same *partition*, one behind the other. If a correction has the same key as the first report, nobody ever reads them the wrong way round.
#
# So the key must be what all reports of one accident share: `Police_ref`. Kafka wants bytes: `"19000000"` becomes `b"19000000"`.
#
# **The trap**: the event's id as key. It is new for each correction, so the reports of one accident scatter.
#
# Run the next two cells, and see the check red. Then replace the line with `raise`, run your cell, and check again.


# %% tags=["answer"]
def event_key(event: dict) -> bytes:
    """The Kafka key of an event: its police reference in ASCII.

    >>> event_key({"Police_ref": "19000000", "event_id": "434ff8b3", "Casualties": 2})
    b'19000000'
    """
    return event["Police_ref"].encode("ascii")


# %% tags=["check"]
check("00.1")

# %% [markdown]
# ## One event in
#
# Your key goes to Kafka, with the event as value. `get` waits until the broker says where it lies: the first record of its partition has offset 0.

# %% tags=["try", "nbval-check-output"]
topic = f"start_{uuid.uuid4().hex[:8]}"
admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
sent = producer.send(topic, key=event_key(event), value=json.dumps(event).encode()).get(timeout=10)
producer.close()
sent.partition, sent.offset

# %% [markdown]
# A *consumer* reads it back, the very bytes:

# %% tags=["try", "nbval-check-output"]
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=settings.kafka_bootstrap,
    auto_offset_reset="earliest",
    consumer_timeout_ms=10_000,
)
record = next(consumer)
consumer.close()
record.key, len(record.value), json.loads(record.value) == event

# %% [markdown]
# Spark reads the same topic as a table. It starts a Java process, which takes some seconds the first time.

# %% tags=["try", "nbval-check-output"]
spark = services.spark_session()
records = (
    spark.read.format("kafka")
    .option("kafka.bootstrap.servers", settings.kafka_bootstrap)
    .option("subscribe", topic)
    .load()
)
records.selectExpr("CAST(key AS STRING) AS police_ref", "partition", "offset").toPandas()

# %% [markdown]
# ## One row out
#
# MySQL keeps it. `begin()` opens a transaction: all of it is stored when the block ends well, and nothing when it does not. The table is a temporary one here, gone with the connection. (`admin` may create tables; the pipeline's own user, `loader`, may only write rows.)

# %% tags=["try", "nbval-check-output"]
row = {name: event[name] for name in ("Police_ref", "Date", "Severity", "Casualties")}
engine = sa.create_engine(settings.mysql_url("admin"))
with engine.begin() as connection:
    connection.execute(
        sa.text(
            "CREATE TEMPORARY TABLE first_fact (Police_ref CHAR(8) PRIMARY KEY,"
            " Date DATE, Severity VARCHAR(10), Casualties INT)"
        )
    )
    connection.execute(
        sa.text("INSERT INTO first_fact VALUES (:Police_ref, :Date, :Severity, :Casualties)"), row
    )
    facts = pd.read_sql(sa.text("SELECT * FROM first_fact"), connection)
facts

# %% [markdown]
# One event in, one row out. The other labs make this true for a million events, when they come twice, late or broken, and when any of these services dies in the middle.

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()

# %% [markdown]
# ## Drill: the same record twice (2 minutes)
#
# A producer that hears no answer sends again. **Predict first, and write it down here**: the topic has one record. After sending the same event again, with the same key, how many records has it? My guess: …

# %% tags=["drill", "nbval-check-output"]
producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
producer.send(topic, key=event_key(event), value=json.dumps(event).encode()).get(timeout=10)
producer.close()
records.groupBy("partition").count().toPandas()

# %% [markdown]
# Two, in one partition. Kafka keeps what it is given; that it is the same accident is for the readers to see. Much of the course is about that.
#
# Clean up:

# %% tags=["drill"]
admin.delete_topics([topic])
admin.close()
engine.dispose()

# %% [markdown]
# ## Recall
#
# 1. Which three things does a Kafka record carry, of those that you have seen?
# 2. Why is the police reference a better key than the event's id?
# 3. Who decides in which partition a record lies?
# 4. What happens to a transaction when its block ends with an exception?
# 5. What does ZooKeeper do for Kafka 3.9?

# %% [markdown]
# ## What the checks do not cover
#
# They look at your key alone. That the record arrived, the cells above have shown, and lab 03 checks it.

# %% [markdown]
# ## What the industry does differently
#
# Three brokers or more, so that one may die; passwords and encryption between all parts; a table that is there to stay. You will add the first of these in a drill, the others are set up in this course already: look into `.env`.

"""What the kit has for a sink: settings of a check, batches as foreachBatch hands them over, functions that keep what they are called with."""

import pytest

from grading.student import Limits, Raised, Source, Student

CODE = """
def addresses(settings):
    return [settings.mysql_url(), settings.jdbc_url(), settings.password("loader"), settings.database, settings.having(database="other").jdbc_url()]


def broker(settings):
    return [settings.kafka_bootstrap, settings.topic, settings.dead_letter_topic, settings.checkpoint.name, settings.max_offsets_per_trigger]


def asks_for(settings, user):
    return settings.mysql_url(user)


def query_of(batch):
    return batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")


def hand_over(sink, batch, number):
    sink(batch, number)
"""
URL = "mysql+pymysql://check_1:secret@127.0.0.1:4406/check_1?charset=utf8mb4"
NAMES = frozenset({"addresses", "broker", "asks_for", "query_of", "hand_over"})


@pytest.fixture(scope="module")
def student():
    """A child with the code above, and a JVM."""
    made = Student(Source("lab_test", (), (("cell 1", CODE),), NAMES), Limits(call_s=60, load_s=60, spark=True))
    yield made
    made.close()


def test_settings_lead_to_the_check_s_places_and_know_no_other_user(student):
    """Of the loader the URL of the check, whoever logs in by it; of the admin nothing."""
    settings = student.kit.settings(URL, "127.0.0.1:9", topic="t", checkpoint="/nowhere/point", max_offsets_per_trigger=7)
    assert student.addresses(settings) == [URL, "jdbc:mysql://127.0.0.1:4406/check_1", "secret", "check_1", "jdbc:mysql://127.0.0.1:4406/other"]
    assert student.broker(settings) == ["127.0.0.1:9", "t", "t.dead", "point", 7]
    with pytest.raises(Raised, match="admin"):
        student.asks_for(settings, "admin")


def test_a_batch_belongs_to_a_query_until_the_check_ends(student):
    """The query's id is where foreachBatch has it; after the check it is gone."""
    batch = student.kit.batch([(1, b"\xff")], "id INT, value BINARY", "query-1", 3)
    assert student.query_of(batch) == "query-1"
    student.tidy()
    assert student.query_of(student.kit.frame([(1,)], "id INT")) is None


def test_what_a_function_was_called_with_is_kept(student):
    """A frame as its rows; the call that was to fail raises and is not kept, its repetition is."""
    noting = student.kit.noting(fails_at=1)
    batch = student.kit.batch([(1, None), (2, b"\x00")], "id INT, value BINARY", "query-1", 1)
    student.hand_over(noting, batch, 0)
    with pytest.raises(Raised, match="on purpose"):
        student.hand_over(noting, batch, 1)
    student.hand_over(noting, batch, 1)
    rows = [{"id": 1, "value": None}, {"id": 2, "value": b"\x00"}]
    assert student.kit.noted(noting) == [[rows, 0], [rows, 1]]

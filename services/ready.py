"""How one sees that a service is ready, wherever it runs; each of these raises or answers something false while it is not."""

import socket

from services.settings import LOOPBACK, kind, settings

PATIENCE_S = 3
"""A paused service still has its port open: only a time-out for its answer tells."""


def zookeeper(port: int, host: str = LOOPBACK) -> bool:
    """True once ZooKeeper says that it serves."""
    with socket.create_connection((host, port), 1) as line:
        line.settimeout(PATIENCE_S)
        line.sendall(b"srvr")
        return b"Mode:" in line.recv(4096)


def kafka(port: int, host: str = LOOPBACK) -> bool:
    """True once the broker on this port names itself in its own metadata (listening comes earlier)."""
    from kafka import KafkaAdminClient

    with socket.create_connection((host, port), 1):
        pass
    admin = KafkaAdminClient(bootstrap_servers=f"{host}:{port}", bootstrap_timeout_ms=1000 * PATIENCE_S, request_timeout_ms=1000 * PATIENCE_S)
    try:
        return any(broker["port"] == port for broker in admin.describe_cluster()["brokers"])
    finally:
        admin.close()


def mysql(port: int, host: str = LOOPBACK) -> str:
    """The server's version once admin can log in."""
    import pymysql

    limits = {"connect_timeout": PATIENCE_S, "read_timeout": PATIENCE_S, "write_timeout": PATIENCE_S}
    with (
        pymysql.connect(host=host, port=port, user="admin", password=settings().password("admin"), **limits) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT VERSION()")
        return cursor.fetchone()[0]


def probe(name: str):
    """The probe of a service: a function of port and host."""
    return {"zookeeper": zookeeper, "kafka": kafka, "mysql": mysql}[kind(name)]

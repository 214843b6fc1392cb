"""How one sees that a service is ready, wherever it runs; each of these raises or answers something false while it is not."""

import socket

import psutil

from services.errors import StartFailed
from services.processes import Say, unsaid, wait_until
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


# --- before a broker starts again ------------------------------------------------------------------------------------

OLD_SESSION_S = 24
"""Four times a broker's session with ZooKeeper."""


class NoSession(StartFailed):
    """ZooKeeper took no session: it is not there, or it hangs."""


def wait_for_old_session(hosts: str, node: str, connect_s: float, say: Say = unsaid, process: psutil.Process | None = None) -> None:
    """A broker that was killed keeps its znode until ZooKeeper ends its session; a new one may not start before.

    Args:
        hosts: host:port of ZooKeeper.
        node: the broker's znode, for example "/brokers/ids/1".
        connect_s: seconds until ZooKeeper must take a session.
        say: told if there is something to wait for.
        process: ZooKeeper's, where it is one of this machine; if it ends, so does the wait.

    Raises:
        NoSession: ZooKeeper took no session.
        StartFailed: ZooKeeper ended, or the znode stays.
    """
    from kazoo.client import KazooClient

    client = KazooClient(hosts=hosts, timeout=4)
    try:
        client.start_async()
        # kazoo's own calls wait for ever when ZooKeeper dies under them; each look has a time-out, and a dead ZooKeeper ends the wait.
        try:
            wait_until(lambda: client.connected, connect_s, "ZooKeeper does not take a session", process)
        except StartFailed as error:
            raise NoSession(str(error)) from None
        if there(client, node):
            say("waiting until ZooKeeper has ended the session of the broker that died")
        wait_until(lambda: not there(client, node), OLD_SESSION_S, "the old broker's session in ZooKeeper", process)
    finally:
        client.stop()
        client.close()


def there(client, node: str) -> bool:
    """True if the znode is there, or if ZooKeeper does not say so in time."""
    from kazoo.exceptions import KazooException

    answer = client.exists_async(node)
    try:
        return answer.get(timeout=5) is not None
    except (KazooException, client.handler.timeout_exception):
        return True

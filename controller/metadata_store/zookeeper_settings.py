"""What a ZooKeeper session needs to know, taken from the configuration, and who may read which node.

Runs in: controller. Pure data.
"""
from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from broker.config.kafka_config import KafkaConfig
from broker.config.zookeeper_login import DigestCredentials
from broker.config.zookeeper_rules import TlsSettings

IN_FLIGHT_MAX = 128
"""A request waits as a byte in a socket pair until kazoo's thread takes it; about 270 fit before a sender
would block, and that sender is the event loop."""


@dataclass(frozen=True)
class ZooKeeperSettings:
    """hosts: `host:port` with commas, IPv6 in brackets. chroot: "" or "/kafka". acl: nodes belong to their
    creator (zookeeper.set.acl). max_in_flight: requests outstanding at once."""

    hosts: str
    chroot: str
    session_timeout_ms: int
    connection_timeout_ms: int
    max_in_flight: int = 10
    acl: bool = False
    tls: TlsSettings | None = None
    sasl: DigestCredentials | None = None


def settings_from(config: KafkaConfig) -> ZooKeeperSettings:
    """Of a configuration that has zookeeper.connect (`config.embedded` is False)."""
    zookeeper = config.zookeeper
    assert zookeeper is not None, "without zookeeper.connect metadata are embedded"
    session_timeout_ms = int(config["zookeeper.session.timeout.ms"])
    connection_timeout_ms = config["zookeeper.connection.timeout.ms"]
    return ZooKeeperSettings(
        hosts=",".join(zookeeper.address.hosts),
        chroot=zookeeper.address.chroot,
        session_timeout_ms=session_timeout_ms,
        connection_timeout_ms=session_timeout_ms if connection_timeout_ms is None else connection_timeout_ms,
        max_in_flight=min(IN_FLIGHT_MAX, config["zookeeper.max.in.flight.requests"]),
        acl=config["zookeeper.set.acl"],
        tls=zookeeper.tls,
        sasl=zookeeper.login,
    )


class Access(Enum):
    """Who may do what with a node."""

    OPEN = "everyone everything"
    READABLE = "its creator everything, everyone reads"
    PRIVATE = "its creator only"


_PRIVATE_ROOTS = ("/config/users", "/config/brokers", "/delegation_token/tokens")
_OPEN_PATH = "/consumers"


def access_of(path: str, secure: bool) -> Access:
    """Kafka's choice (ZkData.defaultAcls): secrets are private, old consumers write under /consumers."""
    if not secure or path == _OPEN_PATH:
        return Access.OPEN
    return Access.PRIVATE if path.startswith(_PRIVATE_ROOTS) else Access.READABLE

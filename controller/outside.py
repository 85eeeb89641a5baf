"""What the event loop needs of the process and the world around it; the simulation gives it its own.

Runs in: controller. Fixed at start.
"""
from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.config.kafka_config import KafkaConfig
from controller.channel import TcpBroker, Transport
from controller.cluster import Endpoint
from controller.metadata_store.interface import MetadataStore
from controller.request_server import ApiCall

SessionOpener = Callable[[], Awaitable[MetadataStore]]
"""A new, connected session. Any StoreError: it is asked again, for ever."""


def boottime_ns() -> int:
    """The lease's clock: it runs while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


TransportTo = Callable[[int, Endpoint], Transport]
Forward = Callable[[ApiCall, int, Endpoint], None]


def tcp_transports(config: KafkaConfig) -> TransportTo:
    """To other brokers, as the configuration says."""
    connect_timeout_s = config["controller.socket.timeout.ms"] / 1000
    return lambda broker_id, endpoint: TcpBroker(endpoint.host, endpoint.port, connect_timeout_s)


@dataclass(frozen=True)
class Outside:
    """on_registered: told the broker epoch after each registration, unasked ones too (a session expired).
    open_session: after expiry; a store whose sessions never end does not ask. transport_to: by broker id and
    endpoint of the inter-broker listener. forward: a call of the front end's own to the node that leads (id,
    endpoint), which answers it some time. random: topic ids and placement.
    """

    on_registered: Callable[[int], None]
    open_session: SessionOpener
    transport_to: TransportTo
    forward: Forward
    boottime_ns: Callable[[], int] = boottime_ns
    wall_clock_ms: Callable[[], int] = wall_clock_ms
    random: random.Random = field(default_factory=random.SystemRandom)

"""One broker of each kind for the whole run, and a second one with stricter settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.apis.brokers import BASE, ApiBroker, kafka, ottla
from tests.peers.kafka_cluster import ZooKeeper

KINDS = ["ottla", pytest.param("kafka", marks=pytest.mark.kafka)]
PLAIN = {**BASE, "group.min.session.timeout.ms": "1000"}
STRICT = {
    **PLAIN,
    "group.initial.rebalance.delay.ms": "1000",
    "group.max.size": "2",
    "offset.metadata.max.bytes": "20",
    "offsets.retention.check.interval.ms": "500",
}
Start = Callable[[str, str], ApiBroker]


@pytest.fixture(scope="session")
def start_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(kind, "plain" or "strict") -> the running broker, the same one each time."""
    running: dict[tuple[str, str], ApiBroker] = {}

    def start(kind: str, name: str) -> ApiBroker:
        key = (kind, name)
        if key not in running:
            settings = PLAIN if name == "plain" else STRICT
            running[key] = _make(request, kind, tmp_path_factory.mktemp(f"{kind}-{name}"), settings, name)
            running[key].node.start()
        return running[key]

    yield start
    for broker in running.values():
        broker.node.close()


def _make(
    request: pytest.FixtureRequest, kind: str, work_dir: Path, settings: dict[str, str], name: str
) -> ApiBroker:
    if kind == "ottla":
        return ottla(work_dir, settings)
    libs: Path = request.getfixturevalue("kafka_libs")
    zookeeper: ZooKeeper = request.getfixturevalue("zookeeper")
    return kafka(libs, zookeeper, work_dir, settings, f"/groups-{name}")


@pytest.fixture(scope="session", params=KINDS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def broker(broker_kind: str, start_broker: Start) -> ApiBroker:
    return start_broker(broker_kind, "plain")


@pytest.fixture(scope="session")
def strict(broker_kind: str, start_broker: Start) -> ApiBroker:
    """As `broker`, with the settings in `STRICT`."""
    return start_broker(broker_kind, "strict")

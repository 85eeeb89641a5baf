"""One broker of each kind for the whole run, and a second one with other settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.apis.brokers import BASE, VARIANT, ApiBroker, kafka, ottla
from tests.integration.apis.wire import Client
from tests.peers.kafka_cluster import ZooKeeper

KINDS = ["ottla", pytest.param("kafka", marks=pytest.mark.kafka)]
Start = Callable[[str, str], ApiBroker]


@pytest.fixture(scope="session")
def start_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(kind, "base" or "variant") -> the running broker, the same one each time."""
    running: dict[tuple[str, str], ApiBroker] = {}

    def start(kind: str, settings_name: str) -> ApiBroker:
        key = (kind, settings_name)
        if key not in running:
            settings = BASE if settings_name == "base" else VARIANT
            work_dir = tmp_path_factory.mktemp(f"{kind}-{settings_name}")
            running[key] = _make(request, kind, work_dir, settings, settings_name)
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
    return kafka(libs, zookeeper, work_dir, settings, f"/apis-{name}")


@pytest.fixture(scope="session", params=KINDS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def broker(broker_kind: str, start_broker: Start) -> ApiBroker:
    """The broker that a test claims something about; each test runs against either kind."""
    return start_broker(broker_kind, "base")


@pytest.fixture(scope="session")
def variant(broker_kind: str, start_broker: Start) -> ApiBroker:
    """As `broker`, with the settings in `brokers.VARIANT`."""
    return start_broker(broker_kind, "variant")


@pytest.fixture
def client(broker: ApiBroker) -> Iterator[Client]:
    with broker.connect() as connection:
        yield connection

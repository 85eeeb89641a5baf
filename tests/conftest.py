"""Fixtures for all tests: real peers (Kafka, Java tools) and Ottla itself as a child process.

`target` is the broker that a client test talks to. It is Ottla, unless `--broker` (or OTTLA_TEST_BROKER)
names others: `kafka`, `ottla`, `host:port`, or several with commas. Running a client test with
`--broker kafka` is how the test itself is validated.
What a test needs and the machine lacks (JDK, Maven, Go) skips the test by hand, with the reason; where
CI is set it fails, so that nothing is left out unseen. Go is the exception: no Debian package is new
enough.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from tests.peers.java_tools import JavaTools
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.kafka_jars import kafka_libs as find_kafka_libs
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import PeerUnavailableError, kill_all_children
from tests.peers.wire import Address

# For every target of client tests: what Kafka's defaults would not give within a test's time.
TARGET_OVERRIDES = {"num.partitions": "3", "auto.create.topics.enable": "true"}


class Target(Protocol):
    """A broker under test."""

    name: str

    @property
    def address(self) -> Address: ...

    @property
    def bootstrap(self) -> str: ...

    def check_running(self) -> None: ...


class ExternalBroker:
    """Somebody else's broker, given as host:port."""

    name = "external"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        host, _, port = bootstrap.rpartition(":")
        self.address: Address = (host, int(port))

    def check_running(self) -> None:
        """Not ours to know."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default=os.environ.get("OTTLA_TEST_BROKER", "ottla"),
        help="what client tests talk to: ottla, kafka, host:port, or several with commas",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target_kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--broker").split(",")
        params = [pytest.param(kind, marks=pytest.mark.kafka) if kind == "kafka" else kind for kind in kinds]
        metafunc.parametrize("target_kind", params, scope="session")


def unavailable(error: PeerUnavailableError) -> NoReturn:
    """A skip that says what is missing; a failure in CI, where everything has to run."""
    if os.environ.get("CI"):
        pytest.fail(f"needed in CI: {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_libs() -> Path:
    """The directory of the jars of Kafka 3.9.1."""
    try:
        return find_kafka_libs()
    except PeerUnavailableError as error:
        unavailable(error)


@pytest.fixture(scope="session")
def java_tools(kafka_libs: Path) -> JavaTools:
    return JavaTools(kafka_libs)


@pytest.fixture(scope="session")
def zookeeper(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    """One ZooKeeper for the run; tests that write to it use a chroot or broker id of their own."""
    server = ZooKeeper(kafka_libs, tmp_path_factory.mktemp("zookeeper"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka_broker(
    kafka_libs: Path, zookeeper: ZooKeeper, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaBroker]:
    """A running Kafka 3.9.1 shared by the run: for comparing answers, not for killing."""
    work_dir = tmp_path_factory.mktemp("kafka")
    broker = KafkaBroker(kafka_libs, work_dir, zookeeper, TARGET_OVERRIDES, chroot="/shared")
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def make_kafka(
    kafka_libs: Path, zookeeper: ZooKeeper, tmp_path: Path
) -> Iterator[Callable[..., KafkaBroker]]:
    """make_kafka(**arguments of KafkaBroker) -> a broker of the test's own, not started yet."""
    made: list[KafkaBroker] = []

    def make(**arguments: Any) -> KafkaBroker:
        work_dir = tmp_path / f"kafka-{len(made)}"
        arguments.setdefault("chroot", f"/{tmp_path.name}-{len(made)}")
        made.append(KafkaBroker(kafka_libs, work_dir, zookeeper, **arguments))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def make_ottla(tmp_path: Path) -> Iterator[Callable[..., OttlaBroker]]:
    """make_ottla(**arguments of OttlaBroker) -> a broker of the test's own, not started yet."""
    made: list[OttlaBroker] = []

    def make(**arguments: Any) -> OttlaBroker:
        made.append(OttlaBroker(tmp_path / f"ottla-{len(made)}", **arguments))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture(scope="session")
def ottla_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OttlaBroker]:
    """A running Ottla shared by the run: for tests that neither stop it nor change its configuration."""
    broker = OttlaBroker(tmp_path_factory.mktemp("ottla"), TARGET_OVERRIDES)
    broker.start()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def target(target_kind: str, request: pytest.FixtureRequest) -> Target:
    """The broker that client tests talk to."""
    if target_kind in ("ottla", "kafka"):
        broker: Target = request.getfixturevalue(f"{target_kind}_broker")
        return broker
    return ExternalBroker(target_kind)


@pytest.fixture(scope="session", autouse=True)
def no_child_survives() -> Iterator[None]:
    yield
    kill_all_children()

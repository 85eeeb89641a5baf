"""One broker of each kind for the whole run, and a second one with other settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.apis.brokers import BASE, KINDS, VARIANT, ApiBroker, Start, running_brokers
from tests.integration.apis.wire import Client


@pytest.fixture(scope="session")
def start_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(kind, "base" or "variant") -> the running broker, the same one each time."""
    yield from running_brokers(request, tmp_path_factory, "apis", {"base": BASE, "variant": VARIANT})


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

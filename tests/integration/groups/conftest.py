"""One broker of each kind for the whole run, and a second one with stricter settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.apis.brokers import BASE, KINDS, ApiBroker, Start, running_brokers

PLAIN = {**BASE, "group.min.session.timeout.ms": "1000"}
STRICT = {
    **PLAIN,
    "group.initial.rebalance.delay.ms": "1000",
    "group.max.size": "2",
    "offset.metadata.max.bytes": "20",
    "offsets.retention.check.interval.ms": "500",
}


@pytest.fixture(scope="session")
def start_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(kind, "plain" or "strict") -> the running broker, the same one each time."""
    yield from running_brokers(request, tmp_path_factory, "groups", {"plain": PLAIN, "strict": STRICT})


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

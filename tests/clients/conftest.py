"""Fixtures of the client tests: topics of the test's own, sizes, and a reader independent of the writer."""
from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable

import pytest

from tests.clients import librdkafka
from tests.clients.dataset import PARTITIONS
from tests.conftest import Target, unavailable
from tests.peers.processes import PeerUnavailableError
from tests.peers.wire import WireConnection, wait_for_leaders

TIMESTAMPS_BEFORE_NOW_MS = 3_600_000


@pytest.fixture(autouse=True)
def target_is_running(request: pytest.FixtureRequest) -> None:
    """A broker that died is reported with its log, before the next client waits for it in vain."""
    if "target" in request.fixturenames:
        request.getfixturevalue("target").check_running()


@pytest.fixture(scope="session")
def kcat() -> str:
    found = shutil.which("kcat")
    if found is None:
        unavailable(PeerUnavailableError("no kcat found: install the package kcat"))
    return found


@pytest.fixture(scope="session")
def base_timestamp_ms() -> int:
    """Record 0's timestamp: recent, so that no retention by time meets the records."""
    return int(time.time() * 1000) - TIMESTAMPS_BEFORE_NOW_MS


@pytest.fixture(scope="session")
def make_topic(target: Target) -> Callable[..., str]:
    """make_topic(partitions=3, **configs with _ for .) -> the name of a new topic whose leaders are known."""
    numbers = itertools.count()

    def make(partitions: int = PARTITIONS, **configs: str) -> str:
        name = f"clients-{int(time.time() * 1000)}-{next(numbers)}"
        with WireConnection(target.address) as connection:
            connection.create_topic(
                name, partitions, {key.replace("_", "."): value for key, value in configs.items()}
            )
        wait_for_leaders(target.address, {name: partitions})
        return name

    return make


@pytest.fixture(scope="session")
def read_digests(target: Target) -> Callable[[str], tuple[str, ...]]:
    """read_digests(topic) -> the digest of each partition as librdkafka reads it."""
    return lambda topic: librdkafka.read_digests(target.bootstrap, topic, PARTITIONS)

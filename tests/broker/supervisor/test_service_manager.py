"""sd_notify against a real socket."""
from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.supervisor.service_manager import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def test_states_are_sent_as_systemd_spells_them(manager: socket.socket) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.getsockname()})
    service.ready()
    service.status("loading")
    service.extend_timeout()
    service.stopping()
    service.alive()
    assert [manager.recv(100) for _ in range(5)] == [
        b"READY=1", b"STATUS=loading", b"EXTEND_TIMEOUT_USEC=60000000", b"STOPPING=1", b"WATCHDOG=1"]


def test_an_unchanged_status_is_sent_once(manager: socket.socket) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.getsockname()})
    service.status("x")
    service.status("x")
    manager.recv(100)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_an_abstract_address_begins_with_a_zero_byte() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0ottla-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@ottla-test-{os.getpid()}"}).ready()
        sock.settimeout(5)
        assert sock.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens() -> None:
    service = ServiceManager({})
    service.ready()
    assert service.watchdog_interval_ms is None


def test_a_manager_that_went_away_does_not_harm_the_node(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environment", "interval_ms"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_period(environment: dict[str, str], interval_ms: int | None) -> None:
    assert ServiceManager(environment).watchdog_interval_ms == interval_ms

"""Accepting: bursts, connections that are gone already, a process without descriptors, closed doors."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
import trio

from broker.network.listeners import BURST_MAX, accept_loop
from tests.broker.network.harness import lines, settle

pytestmark = pytest.mark.trio


class Door:
    """Lets in as many as it has slots."""

    def __init__(self, slots: int = 1000) -> None:
        self.slots = slots
        self.entered: list[tuple[socket.socket, str]] = []
        self.opened = trio.Event()

    def has_slot(self, listener_name: str) -> bool:
        return len(self.entered) < self.slots

    async def wait_for_slot(self, listener_name: str) -> None:
        while not self.has_slot(listener_name):
            await self.opened.wait()

    def accepted(self, sock: socket.socket, listener_name: str) -> None:
        self.entered.append((sock, listener_name))


class FailingSocket(socket.socket):
    """accept() raises these first."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            code = self.failures.pop(0)
            raise OSError(code, errno.errorcode[code])
        return super().accept()


@pytest.fixture
def listening() -> Iterator[FailingSocket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        sock = FailingSocket(fileno=server.detach())
    sock.failures = []
    with sock:
        yield sock


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


def connect(listening: socket.socket, clients: list[socket.socket], count: int = 1) -> None:
    clients += [socket.create_connection(listening.getsockname()) for _ in range(count)]


async def entered(door: Door, count: int) -> None:
    """TCP on the loopback delivers at its own pace."""
    with trio.fail_after(5):
        while len(door.entered) < count:
            await trio.sleep(0.001)


async def test_accepted_sockets_do_not_block_and_know_their_listener(
    listening: FailingSocket, clients: list[socket.socket], nursery: trio.Nursery
) -> None:
    door = Door()
    nursery.start_soon(accept_loop, listening, "PLAINTEXT", door)
    connect(listening, clients)
    await entered(door, 1)
    ((sock, name),) = door.entered
    assert (sock.getblocking(), name) == (False, "PLAINTEXT")
    sock.close()


async def test_more_than_a_burst_is_accepted(
    listening: FailingSocket, clients: list[socket.socket], nursery: trio.Nursery
) -> None:
    door = Door()
    connect(listening, clients, BURST_MAX + 10)
    nursery.start_soon(accept_loop, listening, "PLAINTEXT", door)
    await entered(door, BURST_MAX + 10)
    for sock, _ in door.entered:
        sock.close()


async def test_a_connection_that_is_gone_before_it_is_accepted_is_passed_over(
    listening: FailingSocket, clients: list[socket.socket], nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    listening.failures = [errno.ECONNABORTED, errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH]
    door = Door()
    connect(listening, clients)
    nursery.start_soon(accept_loop, listening, "PLAINTEXT", door)
    await entered(door, 1)
    door.entered[0][0].close()
    assert lines(caplog) == []


async def test_without_descriptors_it_complains_once_and_tries_again(
    listening: FailingSocket, clients: list[socket.socket], nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    listening.failures = [errno.EMFILE] * 20
    door = Door()
    connect(listening, clients)
    began_s = trio.current_time()
    nursery.start_soon(accept_loop, listening, "PLAINTEXT", door)
    while not door.entered:
        await trio.sleep(1)
    assert 2 <= trio.current_time() - began_s <= 4
    door.entered[0][0].close()
    assert lines(caplog) == [
        ("ERROR", "Cannot accept on listener PLAINTEXT: [Errno 24] EMFILE; raise LimitNOFILE")
    ]


async def test_an_error_of_the_listening_socket_itself_is_not_hidden(
    listening: FailingSocket, clients: list[socket.socket]
) -> None:
    listening.failures = [errno.EINVAL]
    connect(listening, clients)
    with pytest.raises(OSError, match="EINVAL"):
        await accept_loop(listening, "PLAINTEXT", Door())


async def test_with_closed_doors_connections_stay_in_the_queue(
    listening: FailingSocket, clients: list[socket.socket], nursery: trio.Nursery
) -> None:
    door = Door(slots=2)
    connect(listening, clients, 5)
    nursery.start_soon(accept_loop, listening, "PLAINTEXT", door)
    await entered(door, 2)
    await settle()
    assert len(door.entered) == 2
    door.slots = 5
    door.opened.set()
    await entered(door, 5)
    for sock, _ in door.entered:
        sock.close()

"""Limits of connections, and the sweeps, on a clock that the test moves (behaviour 6, REVIEW item 21)."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from broker.log_dirs.page_cache import DirectoryWarmth
from broker.network.connection import FRAME_PROGRESS_BYTES_MIN
from broker.network.receive import ReceiveBuffers
from broker.network.server import STALLED_FRAME_S_MAX, ConnectionLimits, Server
from storage.ipc.arena import Arena, Slab
from storage.ipc.region import Region
from tests.broker.network.harness import (
    ARENA_BYTES,
    FETCH,
    METADATA,
    MIB,
    PRODUCE,
    REQUEST_BYTES_MAX,
    Peer,
    Service,
    lines,
    request_frame,
    settle,
)

pytestmark = pytest.mark.trio

BUDGET_BYTES = 8 * MIB
UNLIMITED = ConnectionLimits(
    request_bytes_max=REQUEST_BYTES_MAX, idle_ms=-1, connections_max=2**31 - 1, per_address_max=2**31 - 1,
    per_address_overrides={}, send_buffer_bytes=-1, receive_buffer_bytes=-1,
)  # fmt: skip


class Site:
    """A server with its arena; `make` once, with the limits of the test."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.service = Service()
        self.arena = Arena(Region.create("arena", ARENA_BYTES), REQUEST_BYTES_MAX, BUDGET_BYTES)
        self._nursery = nursery
        self._directory = directory
        self._clients: list[socket.socket] = []

    def make(self, **limits: object) -> Server:
        receive = ReceiveBuffers(self.arena)
        self.arena.room_callback = receive.room_freed
        self.server = Server(
            dataclasses.replace(UNLIMITED, **limits),  # type: ignore[arg-type]
            receive, DirectoryWarmth([str(self._directory)]), self._nursery, self.service,
        )  # fmt: skip
        return self.server

    def connect(self, listener_name: str = "PLAINTEXT", source: str = "127.0.0.1") -> Peer:
        """A client over TCP, accepted as the listener would."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname(), source_address=(source, 0))
            accepted, _ = listening.accept()
        self._clients.append(client)
        accepted.setblocking(False)
        self.server.accepted(accepted, listener_name)
        return Peer(client)

    def fill(self, size_bytes: int) -> Slab:
        slab = self.arena.allocate(size_bytes)
        assert slab is not None
        slab.note_touched(size_bytes)
        return slab

    async def close(self) -> None:
        self.server.close_all()
        self.service.complete_all()
        await settle()
        assert not self.server.connections
        assert self.arena.used_bytes == 0
        for client in self._clients:
            client.close()


@pytest.fixture
async def site(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(nursery, tmp_path)
    yield site
    await site.close()


async def seen(site: Site, count: int) -> None:
    """So many requests have reached their handlers; TCP on the loopback takes its own time."""
    while len(site.service.seen) < count:
        await trio.lowlevel.checkpoint()
    await settle()


async def received(site: Site, size_bytes: int) -> None:
    """So much of the arena is in use."""
    while site.arena.used_bytes < size_bytes:
        await trio.lowlevel.checkpoint()
    await settle()


# Limits


async def test_connections_above_the_limit_of_their_address_are_closed_at_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = site.make(per_address_max=2)
    first, second = site.connect(), site.connect()
    assert await site.connect().is_closed()
    other = site.connect(source="127.0.0.2")
    assert len(server.connections) == 3
    assert lines(caplog) == [("INFO", "Closing connection from 127.0.0.1: max.connections.per.ip is 2")]
    first.close()
    while len(server.connections) > 2:
        await trio.lowlevel.checkpoint()
    again = site.connect()
    for peer in (second, other, again):
        await peer.send(request_frame(METADATA, 1))
        assert await peer.receive_ids(1) == [1]


async def test_an_address_may_have_a_limit_of_its_own(site: Site) -> None:
    site.make(per_address_max=0, per_address_overrides={"127.0.0.2": 1})
    assert await site.connect().is_closed()
    allowed = site.connect(source="127.0.0.2")
    assert await site.connect(source="127.0.0.2").is_closed()
    await allowed.send(request_frame(METADATA, 1))
    assert await allowed.receive_ids(1) == [1]


async def test_at_max_connections_new_ones_wait_for_a_slot(
    site: Site, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    server = site.make(connections_max=2)
    first, _ = site.connect(), site.connect()
    assert not server.has_slot("PLAINTEXT")
    entered = trio.Event()

    async def wait() -> None:
        await server.wait_for_slot("PLAINTEXT")
        entered.set()

    nursery.start_soon(wait)
    await settle()
    assert not entered.is_set()
    assert lines(caplog) == [
        ("WARNING", "New connections to listener PLAINTEXT wait: max.connections is reached")
    ]
    first.close()
    await entered.wait()
    assert server.has_slot("PLAINTEXT")


async def test_the_inter_broker_listener_takes_the_slot_of_the_least_active_client(
    site: Site, mock_clock: trio.testing.MockClock
) -> None:
    server = site.make(connections_max=3, protected_listener="BROKERS")
    first = site.connect("BROKERS")
    mock_clock.jump(1)
    idle = site.connect("CLIENTS")
    mock_clock.jump(1)
    active = site.connect("CLIENTS")
    assert not server.has_slot("CLIENTS")
    assert server.has_slot("BROKERS")
    second = site.connect("BROKERS")
    assert await idle.is_closed()
    for peer in (first, active, second):
        await peer.send(request_frame(METADATA, 1))
        assert await peer.receive_ids(1) == [1]


async def test_the_inter_broker_listener_may_exceed_the_limit_when_there_are_no_clients(site: Site) -> None:
    server = site.make(connections_max=1, protected_listener="BROKERS")
    peers = [site.connect("BROKERS") for _ in range(3)]
    assert len(server.connections) == len(peers)


async def test_the_controllers_stream_is_not_counted(site: Site) -> None:
    server = site.make(connections_max=1)
    ours, theirs = socket.socketpair()
    server.serve_controller(ours)
    controller = Peer(theirs)
    await controller.send(request_frame(METADATA, 1))
    assert await controller.receive_ids(1) == [1]
    assert site.service.seen[0].connection.privileged
    assert server.has_slot("PLAINTEXT")
    controller.close()
    await settle()


async def test_accepted_sockets_get_their_options(site: Site) -> None:
    server = site.make(send_buffer_bytes=50_000, receive_buffer_bytes=60_000)
    site.connect()
    (connection,) = server.connections
    sock = connection.sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 100_000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 120_000


async def test_a_mapped_address_is_counted_as_its_ipv4_one(site: Site) -> None:
    server = site.make()
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::", 0))
        listening.listen()
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1])):
            server.accepted(listening.accept()[0], "PLAINTEXT")
            (connection,) = server.connections
            assert connection.peer_host == "127.0.0.1"


# Idle connections


async def test_idle_connections_are_closed_without_notice(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = site.make(idle_ms=600_000)
    nursery.start_soon(server.sweep_idle)
    idle, busy = site.connect(), site.connect()
    for _ in range(21):
        mock_clock.jump(30)
        await settle()
        await busy.send(request_frame(METADATA, 1))
        await busy.receive_ids(1)
    assert await idle.is_closed()
    assert len(server.connections) == 1
    assert lines(caplog) == []


async def test_a_waiting_fetch_or_produce_is_not_idle(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    server = site.make(idle_ms=10_000)
    nursery.start_soon(server.sweep_idle)
    fetching, producing = site.connect(), site.connect()
    await fetching.send(request_frame(FETCH, 1))
    await producing.send(request_frame(PRODUCE, 2))
    await seen(site, 2)
    mock_clock.jump(100)
    await settle()
    site.service.fetches[0].answer()
    site.service.complete_all()
    mock_clock.jump(6)
    await settle()
    assert await fetching.receive_ids(1) == [1]
    assert await producing.receive_ids(1) == [2]
    assert len(server.connections) == 2, "the time counts from the answer"
    mock_clock.jump(6)
    await settle()
    assert not server.connections


async def test_a_negative_limit_means_never(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    server = site.make(idle_ms=-1)
    nursery.start_soon(server.sweep_idle)
    site.connect()
    mock_clock.jump(10**6)
    await settle()
    assert len(server.connections) == 1


# Frames that do not get on


async def jump(mock_clock: trio.testing.MockClock, seconds: float) -> None:
    mock_clock.jump(seconds)
    await settle()


def announced(sent_bytes: int) -> bytes:
    return struct.pack(">ih", 20 * MIB, PRODUCE) + bytes(sent_bytes - 6)


async def test_under_pressure_a_frame_without_progress_loses_its_connection(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = site.make()
    nursery.start_soon(server.sweep_stalled)
    stalled, waiting = site.connect(), site.connect()
    await stalled.send(announced(BUDGET_BYTES + 1))
    await received(site, BUDGET_BYTES + 1)
    await waiting.send(request_frame(METADATA, 1))
    while not site.arena.under_pressure:
        await trio.lowlevel.checkpoint()
    await jump(mock_clock, STALLED_FRAME_S_MAX - 2)
    assert len(server.connections) == 2
    await jump(mock_clock, 2)
    await jump(mock_clock, 2)
    assert await stalled.is_closed()
    assert await waiting.receive_ids(1) == [1]
    ((level, text),) = lines(caplog)
    assert level == "WARNING"
    assert text.startswith("Closing connection from 127.0.0.1: its frame made no progress for 30 s")


async def test_without_pressure_a_frame_may_take_its_time(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    server = site.make()
    nursery.start_soon(server.sweep_stalled)
    stalled = site.connect()
    await stalled.send(announced(MIB))
    await received(site, MIB)
    await jump(mock_clock, 10_000)
    assert len(server.connections) == 1


async def test_who_was_refused_room_is_not_blamed_for_it(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """Half a frame, and the rest lies in the socket: it is the arena that does not get on."""
    used = site.fill(4 * MIB)
    server = site.make()
    nursery.start_soon(server.sweep_stalled)
    over, waiting = site.connect(), site.connect()
    await waiting.send(announced(MIB))
    await received(site, 5 * MIB)
    await over.send(announced(4 * MIB))
    await received(site, 9 * MIB)
    nursery.start_soon(waiting.send, bytes(19 * MIB + 4))
    while not site.arena.under_pressure:
        await trio.lowlevel.checkpoint()
    for _ in range(20):
        await jump(mock_clock, 5)
    assert await over.is_closed(), "the one that was allowed beyond the budget and did not use it"
    await seen(site, 1)
    assert len(server.connections) == 1
    used.release()


@pytest.mark.parametrize(("bytes_per_10_s", "survives"), [(1, False), (FRAME_PROGRESS_BYTES_MIN // 2, True)])
async def test_a_few_bytes_now_and_then_are_no_progress(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock, bytes_per_10_s: int, survives: bool
) -> None:
    used = site.fill(BUDGET_BYTES - MIB)
    server = site.make()
    nursery.start_soon(server.sweep_stalled)
    slow, waiting = site.connect(), site.connect()
    await slow.send(announced(MIB))
    await received(site, BUDGET_BYTES)
    await waiting.send(request_frame(METADATA, 1))
    while not site.arena.under_pressure:
        await trio.lowlevel.checkpoint()
    for _ in range(10):
        if len(server.connections) == 2:
            before = site.arena.used_bytes
            await slow.send(bytes(bytes_per_10_s))
            await received(site, before + bytes_per_10_s)
        await jump(mock_clock, 10)
    assert (len(server.connections) == 2) is survives
    used.release()
    assert await waiting.receive_ids(1) == [1]


async def test_a_whole_request_that_waits_for_its_turn_is_not_stalled(
    site: Site, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    server = site.make()
    nursery.start_soon(server.sweep_stalled)
    polling, waiting = site.connect(), site.connect()
    await polling.send(request_frame(FETCH, 1) + request_frame(PRODUCE, 2, bytes(MIB)))
    await received(site, MIB)
    used = site.fill(BUDGET_BYTES - MIB)
    await waiting.send(request_frame(METADATA, 3))
    while not site.arena.under_pressure:
        await trio.lowlevel.checkpoint()
    for _ in range(10):
        await jump(mock_clock, 10)
    assert len(server.connections) == 2
    used.release()

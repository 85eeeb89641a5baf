"""Connections over real sockets and a real arena, with a dispatcher that does what the test says.

`Bench` stands for the process around the connections (`Host`), `Service` for the request handlers,
`Peer` for the client. Requests are the 10 bytes of a header and any body; answers carry the correlation id.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from broker.network.connection import Answer, Connection, Request
from broker.network.receive import ReceiveBuffers
from broker.network.send_file import FileRange
from storage.ipc.arena import Arena, Slab
from storage.ipc.region import Region

PRODUCE, FETCH, METADATA = 0, 1, 3
KIB, MIB = 1 << 10, 1 << 20
ARENA_BYTES = 1024 * MIB
REQUEST_BYTES_MAX = 100 * MIB
HEADER = struct.Struct(">ihhih")
_INT32 = struct.Struct(">i")


def request_frame(api_key: int, correlation_id: int, body: bytes = b"") -> bytes:
    """A whole frame: size, header version 1 without client id, body."""
    return HEADER.pack(10 + len(body), api_key, 0, correlation_id, -1) + body


def answer_frame(correlation_id: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation_id) + body


class HeldProduce:
    """A Produce that storage has not completed yet; it keeps its slab until then."""

    def __init__(self, request: Request, correlation_id: int, is_answered: bool = True) -> None:
        self.done = False
        self.frame = b""
        self.refusal: str | None = None
        self.size_bytes = request.end - request.start
        self.correlation_id = correlation_id
        self._connection = request.connection
        self._slab = request.slab
        self._is_answered = is_answered
        request.slab.retain()

    def complete(self, flush: bool = True, body: bytes = b"") -> None:
        """Storage has answered; flush: the pump passes by as well."""
        self.done = True
        if self._is_answered and self.refusal is None:
            self.frame = answer_frame(self.correlation_id, body)
        self._slab.release()
        if flush:
            self._connection.flush()


class ParkedFetch:
    """A fetch in the purgatory."""

    def __init__(self, request: Request, correlation_id: int) -> None:
        self.correlation_id = correlation_id
        self.is_abandoned = False
        self._connection = request.connection

    def abandon(self) -> None:
        self.is_abandoned = True

    def answer(self, body: bytes = b"") -> None:
        self._connection.answer(answer_frame(self.correlation_id, body))


@dataclass
class Seen:
    """One request that reached a handler."""

    connection: Connection
    api_key: int
    correlation_id: int
    body: bytes


Handler = Callable[[Request, int], Answer | Awaitable[Answer]]


@dataclass
class Service:
    """The dispatcher. Produces are held, fetches parked, anything else is answered with its body, unless
    `handlers` has something else for its key."""

    handlers: dict[int, Handler] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    produces: list[HeldProduce] = field(default_factory=list)
    fetches: list[ParkedFetch] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        view = request.view[request.start : request.end]
        api_key, _, correlation_id, _ = struct.unpack_from(">hhih", view)
        body = bytes(view[10:])
        self.seen.append(Seen(request.connection, api_key, correlation_id, body))
        if api_key in self.handlers:
            return self.handlers[api_key](request, correlation_id)
        if api_key == PRODUCE:
            self.hold(request, correlation_id)
        elif api_key == FETCH:
            self.park(request, correlation_id)
        else:
            return answer_frame(correlation_id, body)
        return None

    def hold(self, request: Request, correlation_id: int, is_answered: bool = True) -> None:
        produce = HeldProduce(request, correlation_id, is_answered)
        self.produces.append(produce)
        request.connection.pipeline(produce)

    def park(self, request: Request, correlation_id: int) -> None:
        fetch = ParkedFetch(request, correlation_id)
        self.fetches.append(fetch)
        request.connection.parked = fetch

    def complete_all(self) -> None:
        """Storage answers everything that it was asked."""
        while self.produces:
            produce = self.produces.pop(0)
            if not produce.done:
                produce.complete()

    @property
    def correlation_ids(self) -> list[int]:
        return [request.correlation_id for request in self.seen]


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def receive(self, size_bytes: int) -> bytes:
        """Exactly so many bytes; fewer only when the broker has closed."""
        received = bytearray()
        while len(received) < size_bytes:
            try:
                more = self.sock.recv(size_bytes - len(received))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
                continue
            if not more:
                break
            received += more
        return bytes(received)

    async def receive_answer(self) -> tuple[int, bytes]:
        """(correlation id, body) of the next answer."""
        (size,) = _INT32.unpack(await self.receive(4))
        frame = await self.receive(size)
        return _INT32.unpack_from(frame)[0], frame[4:]

    async def receive_ids(self, count: int) -> list[int]:
        return [(await self.receive_answer())[0] for _ in range(count)]

    async def is_closed(self) -> bool:
        """Waits for the broker's next byte; True when there is none."""
        try:
            return await self.receive(1) == b""
        except ConnectionResetError:
            return True

    def has_nothing(self) -> bool:
        """Neither an answer nor an end has arrived."""
        try:
            return self.sock.recv(1) is None
        except BlockingIOError:
            return True

    def close(self) -> None:
        self.sock.close()


class Bench:
    """The Host, its arena, and the connections made on it."""

    def __init__(
        self, nursery: trio.Nursery, budget_bytes: int = 64 * MIB, request_bytes_max: int = REQUEST_BYTES_MAX
    ) -> None:
        self.nursery = nursery
        self.serves_controllers = False
        self.request_bytes_max = request_bytes_max
        self.arena = Arena(Region.create("arena", ARENA_BYTES), request_bytes_max, budget_bytes)
        self.receive = ReceiveBuffers(self.arena)
        self.arena.room_callback = self.receive.room_freed
        self.service = Service()
        self.closed: list[Connection] = []
        self.connections: list[Connection] = []
        self.warmed: list[FileRange] = []
        self.warm_error: OSError | None = None

    def connection_closed(self, connection: Connection) -> None:
        self.closed.append(connection)

    async def warm(self, part: FileRange) -> None:
        await trio.lowlevel.checkpoint()
        if self.warm_error is not None:
            raise self.warm_error
        self.warmed.append(part)
        part.cold = False

    def connect(self, privileged: bool = False, send_buffer_bytes: int = 0) -> tuple[Peer, Connection]:
        """A client and the connection that serves it."""
        ours, theirs = socket.socketpair()
        return Peer(theirs), self.serve(ours, privileged, send_buffer_bytes)

    def serve(self, sock: socket.socket, privileged: bool = False, send_buffer_bytes: int = 0) -> Connection:
        sock.setblocking(False)
        if send_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        connection = Connection(sock, "PLAINTEXT", self, self.service, privileged)
        self.connections.append(connection)
        self.nursery.start_soon(connection.serve)
        return connection

    def fill(self, size_bytes: int) -> Slab:
        """Somebody else uses so much of the arena."""
        slab = self.arena.allocate(size_bytes)
        assert slab is not None
        slab.note_touched(size_bytes)
        return slab

    async def close(self) -> None:
        """All ends; then nothing may be left in use."""
        for connection in self.connections:
            connection.close()
        self.service.complete_all()
        await trio.testing.wait_all_tasks_blocked()
        self.receive.close()
        assert (self.arena.used_bytes, self.arena.reserve_used_bytes) == (0, 0), "a slab leaks"


async def settle() -> None:
    """Everything has happened that happens without a further event."""
    await trio.testing.wait_all_tasks_blocked()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """(level, text) of what the network modules have logged, without debugging."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("broker.network") and record.levelno > logging.DEBUG
    ]

"""All connections of the front end: made, counted, closed when idle too long.

What: the `Host` that connections see, socket options, per-address and total limits, the idle sweep.
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from dataclasses import dataclass

import trio

from broker.log_dirs.page_cache import DirectoryWarmth
from broker.network.connection import Connection, Dispatch
from broker.network.receive import ReceiveBuffers
from broker.network.send_file import FileRange

log = logging.getLogger(__name__)

IDLE_SWEEP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Kafka's keys. Buffer sizes of -1 leave the kernel's autotuning on; idle_ms < 0 means never."""

    request_bytes_max: int
    idle_ms: int
    connections_max: int
    per_address_max: int
    per_address_overrides: dict[str, int]
    send_buffer_bytes: int
    receive_buffer_bytes: int


class Server:
    """`connections` holds every live client connection; the controller's stream is not counted."""

    def __init__(
        self, limits: ConnectionLimits, receive: ReceiveBuffers, warmth: DirectoryWarmth,
        nursery: trio.Nursery, dispatch: Dispatch,
    ) -> None:  # fmt: skip
        self.receive = receive
        self.nursery = nursery
        self.request_bytes_max = limits.request_bytes_max
        self.connections: set[Connection] = set()
        self._limits = limits
        self._warmth = warmth
        self._dispatch = dispatch
        self._per_address: Counter[str] = Counter()

    def accepted(self, sock: socket.socket, listener_name: str) -> None:
        """A client connected: serve it, unless a limit forbids (behaviour 6)."""
        self._set_options(sock)
        connection = Connection(sock, listener_name, self, self._dispatch)
        address = connection.peer_host
        allowed = self._limits.per_address_overrides.get(address, self._limits.per_address_max)
        if self._per_address[address] >= allowed:
            log.info("Closing connection from %s: max.connections.per.ip is %d", address, allowed)
            sock.close()
            return
        if len(self.connections) >= self._limits.connections_max:
            self._close_least_active()
        self._per_address[address] += 1
        self.connections.add(connection)
        self.nursery.start_soon(connection.serve)

    def serve_controller(self, sock: socket.socket) -> None:
        """The controller process's stream: the same decoder, privileged."""
        sock.setblocking(False)
        connection = Connection(sock, "CONTROLLER", self, self._dispatch, privileged=True)
        self.nursery.start_soon(connection.serve)

    def _set_options(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._limits.send_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.send_buffer_bytes)
        if self._limits.receive_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.receive_buffer_bytes)

    def _close_least_active(self) -> None:
        victim = min(self.connections, key=lambda connection: connection.last_active_s)
        log.info("Closing connection from %s: max.connections is reached", victim.peer_host)
        victim.close()

    # What connections call

    def connection_closed(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        address = connection.peer_host
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    async def warm(self, part: FileRange) -> None:
        await self._warmth.warm(part)

    # Timers

    async def sweep_idle(self) -> None:
        """Close what has been silent for connections.max.idle.ms, without notice, as Kafka does."""
        if self._limits.idle_ms < 0:
            return
        idle_s = self._limits.idle_ms / 1000
        while True:
            await trio.sleep(min(IDLE_SWEEP_S_MAX, max(idle_s / 4, 0.05)))
            oldest = trio.current_time() - idle_s
            for connection in [entry for entry in self.connections if entry.last_active_s < oldest]:
                if connection.parked is None and not connection.outbox:
                    connection.close()

    def close_all(self) -> None:
        for connection in list(self.connections):
            connection.close()

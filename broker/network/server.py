"""All connections of the front end: made, counted, closed when idle too long or in the way.

What: the `Host` that connections see, socket options, per-address and total limits, the sweeps.
Limits as in Kafka (behaviour 6): above max.connections.per.ip the new connection is closed; at
max.connections new ones wait to be accepted, except on the inter-broker listener when there are others: there
the least active connection of another listener makes room.
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

STALLED_FRAME_S_MAX = 30.0
"""Without progress for so long while others are refused memory: that connection is closed (REVIEW item 21)."""

STALLED_SWEEP_S = 1.0
"""Between two looks while somebody is refused; without pressure nobody looks."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Kafka's keys. Buffer sizes of -1 leave the kernel's autotuning on; idle_ms < 0 means never.
    protected_listener: the inter-broker listener if there are others, else None. serves_controllers: of other
    nodes."""

    request_bytes_max: int
    idle_ms: int
    connections_max: int
    per_address_max: int
    per_address_overrides: dict[str, int]
    send_buffer_bytes: int
    receive_buffer_bytes: int
    protected_listener: str | None = None
    serves_controllers: bool = False


class Server:
    """`connections` holds every live client connection; the controller's stream is not counted."""

    def __init__(
        self, limits: ConnectionLimits, receive: ReceiveBuffers, warmth: DirectoryWarmth,
        nursery: trio.Nursery, dispatch: Dispatch,
    ) -> None:  # fmt: skip
        self.receive = receive
        self.nursery = nursery
        self.request_bytes_max = limits.request_bytes_max
        self.serves_controllers = limits.serves_controllers
        self.connections: set[Connection] = set()
        self._limits = limits
        self._warmth = warmth
        self._dispatch = dispatch
        self._per_address: Counter[str] = Counter()
        self._slot_freed = trio.Event()

    # What the listeners call

    def has_slot(self, listener_name: str) -> bool:
        """Whether a connection may be accepted there now."""
        is_protected = listener_name == self._limits.protected_listener
        return is_protected or len(self.connections) < self._limits.connections_max

    async def wait_for_slot(self, listener_name: str) -> None:
        """Until a connection may be accepted there."""
        if not self.has_slot(listener_name):
            log.warning("New connections to listener %s wait: max.connections is reached", listener_name)
        while not self.has_slot(listener_name):
            await self._slot_freed.wait()

    def accepted(self, sock: socket.socket, listener_name: str) -> None:
        """A client connected: serve it, unless a limit forbids."""
        try:
            self._set_options(sock)
        except OSError as error:
            log.debug("A connection to listener %s was gone at once: %s", listener_name, error)
            sock.close()
            return
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
        """Room for the protected listener, at the cost of another one."""
        others = [one for one in self.connections if one.listener_name != self._limits.protected_listener]
        victim = min(others, key=lambda connection: connection.last_active_s, default=None)
        if victim is not None:
            log.warning("Closing connection from %s: max.connections is reached", victim.peer_host)
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
        self._slot_freed.set()
        self._slot_freed = trio.Event()

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

    async def sweep_stalled(self) -> None:
        """While somebody is refused memory, close whoever holds some for a frame that does not get on."""
        while True:
            await self.receive.wait_for_pressure()
            oldest = trio.current_time() - STALLED_FRAME_S_MAX
            for connection in list(self.connections):
                progress_s = connection.frame_progress_s
                if progress_s is not None and progress_s <= oldest:
                    log.warning(
                        "Closing connection from %s: its frame made no progress for %d s while memory for "
                        "requests is short (ottla.arena.max.bytes)", connection.peer_host, STALLED_FRAME_S_MAX,
                    )  # fmt: skip
                    connection.close()
            await trio.sleep(STALLED_SWEEP_S)

    def close_all(self) -> None:
        for connection in list(self.connections):
            connection.close()
        self.receive.close()

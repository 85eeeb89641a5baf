"""One client connection: frames in, answers out, in Kafka's order.

What: the trio task that receives, cuts frames and starts requests, and the outbox that lets answers leave
strictly in the order of their requests.
Why only Produce is pipelined: a later Produce may be read while earlier ones are on their way through
storage (their order is kept by the ring); any other request could overtake or see stale positions, so it
starts when every earlier answer has left (subtle behaviour 5, REVIEW item 11).
Why answers are sent from outside the task: the completion pump sends without waking anybody; only what the
socket refuses goes to a drain task of this connection.
Runs in: front end. Owner: its own task; `flush`, `answer` and `close` are called by the pump too (same loop).
"""

from __future__ import annotations

import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from broker.network.receive import PEEK_READ_BYTES, SMALL_READ_BYTES, ReceiveBuffers
from broker.network.send_file import FileRange, Part, ShortFileError, push, release_parts
from broker.protocol.errors import ProtocolError

if TYPE_CHECKING:
    from storage.ipc.arena import Slab

log = logging.getLogger(__name__)

PRODUCE_KEY = 0
PIPELINED_REQUESTS_MAX = 1000
"""Produce requests of one connection between receipt and answer; beyond it the socket is left unread."""

PIPELINED_BYTES_MAX = 16 << 20
"""Their bytes: enough for several 1 MB requests in flight, a bound on what one client can pin."""

_FRAME_PREFIX = struct.Struct(">ih")
_SIZE_BYTES = 4


class CloseConnectionError(Exception):
    """Not the peer's fault, but no honest answer can be given: close, so that the client asks again."""


class Request(NamedTuple):
    """One complete frame: `view[body:end]` lies in `slab`, valid until the handler returns or retains it."""

    connection: Connection
    slab: Slab
    view: memoryview
    start: int
    end: int


Answer = bytes | list[Part] | None
"""A whole frame, the parts of one, or None: nothing (acks=0) or later through `answer` or the outbox."""

Dispatch = Callable[[Request], Answer | Awaitable[Answer]]


class Pipelined(Protocol):
    """A Produce on its way: `frame` is its answer once `done` (empty when there is none to send)."""

    done: bool
    frame: bytes
    size_bytes: int


class Parked(Protocol):
    """A request that waits in a purgatory; the connection tells it when nobody will read its answer."""

    def abandon(self) -> None: ...


class Host(Protocol):
    """What a connection needs of the process around it."""

    receive: ReceiveBuffers
    nursery: trio.Nursery
    request_bytes_max: int

    def connection_closed(self, connection: Connection) -> None: ...

    async def warm(self, part: FileRange) -> None: ...


class Connection:
    """See the module. `parked` and `outbox` are never both in use."""

    __slots__ = (
        "_drain_running", "_end", "_host", "_last_was_large", "_slab", "_start", "_wake", "client_software",
        "closed", "dispatch", "last_active_s", "listener_name", "outbox", "outbox_bytes", "parked",
        "peer_host", "privileged", "send_queue", "sock",
    )  # fmt: skip

    def __init__(
        self, sock: socket.socket, listener_name: str, host: Host, dispatch: Dispatch, privileged: bool = False
    ) -> None:
        self.sock = sock
        self.listener_name = listener_name
        self.privileged = privileged
        self.dispatch = dispatch
        self.peer_host = _peer_host(sock)
        self.client_software = ("unknown", "unknown")
        self.closed = False
        self.last_active_s = trio.current_time()
        self.outbox: deque[Pipelined] = deque()
        self.outbox_bytes = 0
        self.parked: Parked | None = None
        self.send_queue: deque[Part] = deque()

        self._host = host
        self._slab: Slab | None = None
        self._start = 0
        self._end = 0
        self._last_was_large = False
        self._drain_running = False
        self._wake: trio.Event | None = None

    # Receiving

    async def serve(self) -> None:
        """Until the peer closes, misbehaves, or the process stops."""
        try:
            while await self._receive():
                pass
        except (ProtocolError, CloseConnectionError) as error:
            log.warning("Closing connection from %s: %s", self.peer_host, error)
        except (ConnectionError, TimeoutError, ShortFileError) as error:
            log.debug("Connection from %s ended: %s", self.peer_host, error)
        except trio.ClosedResourceError:
            pass  # closed by the pump, which has said why
        finally:
            self.close()

    async def _receive(self) -> bool:
        """One read and every frame that it completed; False when the peer has closed."""
        await trio.lowlevel.wait_readable(self.sock)
        if self._slab is None:
            limit = PEEK_READ_BYTES if self._last_was_large else SMALL_READ_BYTES
            await self._host.receive.shared_room(limit)
            if self.closed:
                return False
            try:
                slab, start, end = self._host.receive.receive_shared(self.sock, limit)
            except BlockingIOError:
                return True
            if start == end:
                return False
            slab.retain()
            self._slab, self._start, self._end = slab, start, end
        elif not self._receive_private(self._slab):
            return False
        self.last_active_s = trio.current_time()
        await self._run_frames()
        if not self.closed:
            await self._keep_rest()
        return not self.closed

    def _receive_private(self, slab: Slab) -> bool:
        """Read on into our own slab: to the end of the frame if it is large, else as far as there is room."""
        limit = self._wanted_bytes()
        end = self._end
        stop = self._start + limit if limit > SMALL_READ_BYTES else slab.view.nbytes
        try:
            received = self.sock.recv_into(slab.view[end:stop])
        except BlockingIOError:
            return True
        self._end = end + received
        slab.note_touched(self._end)
        return received > 0

    def _wanted_bytes(self) -> int:
        """Size of the frame that begins at `_start`, prefix included, as far as it is known yet."""
        if self._slab is None or self._end - self._start < _SIZE_BYTES:
            return SMALL_READ_BYTES
        size: int = _FRAME_PREFIX.unpack_from(self._slab.view, self._start)[0] if (
            self._end - self._start >= _FRAME_PREFIX.size
        ) else int.from_bytes(self._slab.view[self._start : self._start + _SIZE_BYTES], "big", signed=True)
        self._check_size(size)
        return size + _SIZE_BYTES

    def _check_size(self, size_bytes: int) -> None:
        if not 0 <= size_bytes <= self._host.request_bytes_max:
            raise ProtocolError(
                f"frame size {size_bytes} is outside 0..{self._host.request_bytes_max} "
                "(socket.request.max.bytes)"
            )

    async def _keep_rest(self) -> None:
        """Nothing left: hold no memory. A started frame: into a slab of our own that can hold all of it."""
        slab = self._slab
        assert slab is not None
        rest = self._end - self._start
        if rest == 0:
            self._slab = None
            slab.release()
            return
        wanted = self._wanted_bytes()
        own = slab.view.nbytes - self._start >= wanted and self._start == 0
        if own:
            return
        roomy = await self._host.receive.private_slab(max(wanted, SMALL_READ_BYTES))
        roomy.view[:rest] = slab.view[self._start : self._end]
        roomy.note_touched(rest)
        slab.release()
        if self.closed:
            roomy.release()
            return
        self._slab, self._start, self._end = roomy, 0, rest

    # Requests

    async def _run_frames(self) -> None:
        slab = self._slab
        assert slab is not None
        view = slab.view
        while self._end - self._start >= _FRAME_PREFIX.size:
            start = self._start
            size, api_key = _FRAME_PREFIX.unpack_from(view, start)
            frame_end = start + _SIZE_BYTES + size
            if frame_end > self._end or size < 2:
                self._check_size(size)
                if size < 2:
                    raise ProtocolError(f"frame of {size} bytes cannot hold a request header")
                break
            self._last_was_large = size > SMALL_READ_BYTES
            if api_key != PRODUCE_KEY:
                while self.parked is not None or self.outbox or self.send_queue:
                    await self._wait()
            else:
                while self.parked is not None or self._pipeline_full():
                    await self._wait()
            if self.closed:
                return
            self._start = frame_end
            answer = self.dispatch(Request(self, slab, view, start + _SIZE_BYTES, frame_end))
            if answer is not None:
                if not isinstance(answer, bytes | list):
                    answer = await answer
                if answer is not None and not self.closed:
                    self.answer(answer)

    def _pipeline_full(self) -> bool:
        return len(self.outbox) >= PIPELINED_REQUESTS_MAX or self.outbox_bytes >= PIPELINED_BYTES_MAX

    async def _wait(self) -> None:
        """Until an answer leaves, or the connection is closed."""
        self._wake = trio.Event()
        await self._wake.wait()
        if self.closed:
            raise trio.ClosedResourceError

    # Answers

    def answer(self, answer: bytes | list[Part]) -> None:
        """Send the answer of the request in progress (parked or not); it is the only one outstanding."""
        self.parked = None
        if self.closed:
            if isinstance(answer, list):
                release_parts(deque(answer))
            return
        if isinstance(answer, bytes):
            self.send_queue.append(answer)
        else:
            self.send_queue.extend(answer)
        self._send()

    def pipeline(self, produce: Pipelined) -> None:
        """Enter a Produce into the outbox; its answer leaves with `flush` after all earlier ones."""
        self.outbox.append(produce)
        self.outbox_bytes += produce.size_bytes

    def flush(self) -> None:
        """Send the answers of every finished Produce at the head of the outbox, in one piece."""
        outbox = self.outbox
        frames = []
        while outbox and outbox[0].done:
            produce = outbox.popleft()
            self.outbox_bytes -= produce.size_bytes
            if produce.frame:
                frames.append(produce.frame)
        if self.closed:
            return
        if frames:
            self.send_queue.append(frames[0] if len(frames) == 1 else b"".join(frames))
            self._send()
        elif not outbox:
            self._woken()

    def _send(self) -> None:
        if self._drain_running:
            return
        try:
            finished = push(self.sock, self.send_queue)
        except (OSError, ShortFileError) as error:
            log.debug("Sending to %s failed: %s", self.peer_host, error)
            self.close()
            return
        if finished:
            self._woken()
        else:
            self._drain_running = True
            self._host.nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        """What the socket did not take at once, or what a worker must read first."""
        try:
            while self.send_queue:
                head = self.send_queue[0]
                if isinstance(head, FileRange) and head.cold:
                    await self._host.warm(head)
                else:
                    await trio.lowlevel.wait_writable(self.sock)
                if self.closed or push(self.sock, self.send_queue):
                    break
                self.last_active_s = trio.current_time()
        except (OSError, ShortFileError, trio.ClosedResourceError) as error:
            log.debug("Sending to %s failed: %s", self.peer_host, error)
            self.close()
        finally:
            self._drain_running = False
        self._woken()

    def _woken(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    # End

    def close(self) -> None:
        """Idempotent. Slabs of requests in flight stay theirs until storage has answered (REVIEW item 10)."""
        if self.closed:
            return
        self.closed = True
        if self.parked is not None:
            self.parked.abandon()
            self.parked = None
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        release_parts(self.send_queue)
        if self._slab is not None:
            self._slab.release()
            self._slab = None
        self._woken()
        self._host.connection_closed(self)


def _peer_host(sock: socket.socket) -> str:
    """The peer's address without its port; `local` for the controller's socket pair."""
    try:
        name = sock.getpeername()
    except OSError:
        return "unknown"
    return str(name[0]) if isinstance(name, tuple) else "local"

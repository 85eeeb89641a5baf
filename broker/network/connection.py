"""One client connection: frames in, answers out, in Kafka's order.

What: the trio task that receives, cuts frames and starts requests, and the outbox that lets answers leave
strictly in the order of their requests.
Why only Produce is pipelined: a later Produce may be read while earlier ones are on their way through
storage (their order is kept by the ring); any other request could overtake or see stale positions, so it
starts when every earlier answer has left (subtle behaviour 5, REVIEW item 11).
Why answers are sent from outside the task: the completion pump sends without waking anybody; only what the
socket refuses goes to a drain task of this connection.
Why `close` leaves the slab alone: a handler of this connection may still be reading its request in it.
Runs in: front end. Owner: its own task; `flush`, `answer`, `wake` and `close` are called by others too (same
loop).
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
from broker.protocol.errors import FrameTooLargeError, MalformedError, ProtocolError
from broker.protocol.frames import REQUEST_SIZE_BYTES_MIN

if TYPE_CHECKING:
    from storage.ipc.arena import Slab

log = logging.getLogger(__name__)

PRODUCE_KEY = 0
PIPELINED_REQUESTS_MAX = 1000
"""Produce requests of one connection between receipt and answer; beyond it the socket is left unread."""

PIPELINED_BYTES_MAX = 16 << 20
"""Their bytes: enough for several 1 MB requests in flight, a bound on what one client can pin."""

BARE_REQUEST_BYTES_MAX = 4 << 20
"""A request without records: its decoding makes objects on the loop, about 0.3 s of it per MiB of the
tiniest array elements. Controllers are exempt: they describe the whole cluster at once."""

CONTROLLER_KEYS = frozenset({4, 5, 6})
CONTROLLER_REQUEST_BYTES_MAX = 32 << 20
"""LeaderAndIsr, StopReplica, UpdateMetadata of another node's controller: a million partitions in one."""

READ_TURN_BYTES = 1 << 20
"""One read of a large frame: what it may receive beyond the arena's budget, and before others' turn."""

TURN_REQUESTS_MAX = 64
"""Requests of one read that are started before others get their turn: 64 KiB may hold thousands."""

FRAME_PROGRESS_BYTES_MIN = 1 << 12
"""Fewer bytes of a frame are no progress: else a byte now and then would keep a slab for ever."""

LAST_ANSWERS_WAIT_S_MAX = 30.0
"""How long answers of earlier requests may take to leave after the peer's last (or its first wrong) frame."""

_FRAME_PREFIX = struct.Struct(">ih")
_SIZE_BYTES = 4
_ANSWERS = (bytes, list)


class CloseConnectionError(Exception):
    """Not the peer's fault, but no honest answer can be given: close, so that the client asks again."""


class Request(NamedTuple):
    """One complete frame: `view[start:end]` lies in `slab`, valid until the handler returns or retains it."""

    connection: Connection
    slab: Slab
    view: memoryview
    start: int
    end: int


Answer = bytes | list[Part] | None
"""A whole frame, the parts of one, or None: nothing (acks=0) or later through `answer` or the outbox."""

Dispatch = Callable[[Request], Answer | Awaitable[Answer]]


class Pipelined(Protocol):
    """A Produce on its way: `frame` is its answer once `done` (empty when there is none to send), or
    `refusal` is why the connection is closed when the earlier answers have left (acks=0)."""

    done: bool
    frame: bytes
    refusal: str | None
    size_bytes: int


class Parked(Protocol):
    """A request that waits in a purgatory; the connection tells it when nobody will read its answer."""

    def abandon(self) -> None: ...


class Host(Protocol):
    """What a connection needs of the process around it. serves_controllers: those of other nodes, by TCP."""

    serves_controllers: bool
    receive: ReceiveBuffers
    nursery: trio.Nursery
    request_bytes_max: int

    def connection_closed(self, connection: Connection) -> None: ...

    async def warm(self, part: FileRange) -> None: ...


class Connection:
    """See the module. `parked` and `outbox` are never both in use.

    frame_progress_s: when the frame that is being received last got on; None while none is, or while it is
    not the peer who is waited for.
    """

    __slots__ = (
        "_bare_bytes_max", "_drain_running", "_end", "_frame_bytes_max", "_host", "_is_ending", "_is_explained",
        "_is_shared",
        "_last_was_large", "_progress_bytes", "_slab", "_start", "_wake", "client_software", "closed",
        "dispatch", "frame_progress_s", "last_active_s", "listener_name", "outbox", "outbox_bytes", "parked",
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
        self.frame_progress_s: float | None = None
        self.outbox: deque[Pipelined] = deque()
        self.outbox_bytes = 0
        self.parked: Parked | None = None
        self.send_queue: deque[Part] = deque()

        self._host = host
        self._frame_bytes_max = host.request_bytes_max
        self._bare_bytes_max = (
            self._frame_bytes_max if privileged else min(self._frame_bytes_max, BARE_REQUEST_BYTES_MAX)
        )
        self._slab: Slab | None = None
        self._is_shared = False
        self._start = 0
        self._end = 0
        self._progress_bytes = 0
        self._last_was_large = False
        self._drain_running = False
        self._is_ending = False
        self._is_explained = False
        self._wake: trio.Event | None = None

    async def serve(self) -> None:
        """Until the peer closes, misbehaves, or the process stops."""
        try:
            try:
                while not self.closed and await self._receive():
                    pass
                self._abandon()
            except (ProtocolError, CloseConnectionError) as error:
                self._explain(error)
            await self._let_answers_leave()
        except trio.ClosedResourceError:
            pass  # closed by somebody else, who has said why
        except Exception:
            log.exception("Closing connection from %s: error of our own", self.peer_host)
        finally:
            self.close()
            if self._slab is not None:
                self._slab.release()
                self._slab = None

    async def _let_answers_leave(self) -> None:
        """What was received whole before the end is still answered, as far as the peer takes it."""
        with trio.move_on_after(LAST_ANSWERS_WAIT_S_MAX):
            while not self.closed and (self.parked is not None or self.outbox or self.send_queue):
                await self._wait()

    def _abandon(self) -> None:
        """Nobody will read the answer of a parked request."""
        if self.parked is not None:
            self.parked.abandon()
            self.parked = None

    # Receiving

    async def _receive(self) -> bool:
        """One read and every frame that it completed; False when the peer has closed."""
        slab = self._slab
        if slab is not None:
            while not slab.may_grow():
                await self._wait_for_room()
        await trio.lowlevel.wait_readable(self.sock)
        try:
            if slab is not None:
                received = self._receive_more(slab)
            elif self.privileged:
                received = await self._receive_reserved()
            else:
                limit = PEEK_READ_BYTES if self._last_was_large else SMALL_READ_BYTES
                while not self._host.receive.has_shared_room(limit):
                    await self._wait_for_room()
                received = self._receive_first(limit)
        except BlockingIOError:
            return True
        except OSError as error:
            self._lost("Connection from", error)
            return False
        if not received:
            return False
        self.last_active_s = trio.current_time()
        await self._run_frames()
        if not self.closed:
            await self._keep_rest()
        return not self.closed

    async def _receive_reserved(self) -> int:
        """Read the controller's next frame, into the share of the arena that clients cannot fill."""
        self._start = self._end = 0
        self._slab = await self._private_slab(SMALL_READ_BYTES)
        self._is_shared = False
        return self._receive_more(self._slab)

    def _receive_first(self, limit_bytes: int) -> int:
        """Read what comes after a whole frame, into memory that all connections share."""
        slab, start, end = self._host.receive.receive_shared(self.sock, limit_bytes)
        if start != end:
            slab.retain()
            self._slab, self._start, self._end, self._is_shared = slab, start, end, True
        return end - start

    def _receive_more(self, slab: Slab) -> int:
        """Read on into our own slab: to the end of the frame if it is large, else as far as there is room."""
        end = self._end
        stop = self._start + max(self._wanted_bytes(), SMALL_READ_BYTES)
        received = self.sock.recv_into(slab.view[end : min(stop, end + READ_TURN_BYTES)])
        self._end = end + received
        slab.note_touched(self._end)
        return received

    def _wanted_bytes(self) -> int:
        """Size of the frame that begins at `_start`, prefix included, as far as it is known yet."""
        if self._slab is None or self._end - self._start < _SIZE_BYTES:
            return _SIZE_BYTES
        size = int.from_bytes(self._slab.view[self._start : self._start + _SIZE_BYTES], "big", signed=True)
        self._check_size(size, self._frame_bytes_max)
        return size + _SIZE_BYTES

    def _check_size(self, size_bytes: int, size_bytes_max: int) -> None:
        if REQUEST_SIZE_BYTES_MIN <= size_bytes <= size_bytes_max:
            return
        if 0 <= size_bytes < REQUEST_SIZE_BYTES_MIN:
            raise MalformedError(f"frame of {size_bytes} bytes cannot hold a request header")
        if 0 < size_bytes <= self._frame_bytes_max:
            raise FrameTooLargeError(
                f"frame of {size_bytes} bytes for a request without records, which may have {size_bytes_max}"
            )
        raise FrameTooLargeError(
            f"frame size {size_bytes} is outside 0..{self._frame_bytes_max} (socket.request.max.bytes)"
        )

    async def _keep_rest(self) -> None:
        """Nothing left: hold no memory. A started frame: in a slab of our own that can hold all of it."""
        slab = self._slab
        assert slab is not None
        rest = self._end - self._start
        if rest == 0:
            self._slab = None
            self.frame_progress_s = None
            slab.release()
            return
        wanted = max(self._wanted_bytes(), SMALL_READ_BYTES)
        if self._is_shared or slab.size_bytes - self._start < wanted:
            roomy = await self._private_slab(wanted)
            roomy.view[:rest] = slab.view[self._start : self._end]
            roomy.note_touched(rest)
            slab.release()
            self._slab, self._start, self._end, self._is_shared = roomy, 0, rest, False
        if self.frame_progress_s is None or rest >= self._progress_bytes:
            self.frame_progress_s = self.last_active_s
            self._progress_bytes = rest + FRAME_PROGRESS_BYTES_MIN

    async def _private_slab(self, size_bytes: int) -> Slab:
        while (slab := self._host.receive.private_slab(size_bytes, self.privileged)) is None:
            await self._wait_for_room()
        return slab

    async def _wait_for_room(self) -> None:
        """Stop reading until the arena has room; meanwhile the frame stands still through no fault of the
        peer, who then gets the full time again."""
        self.frame_progress_s = None
        self._host.receive.refused(self)
        await self._wait()
        self.last_active_s = trio.current_time()
        if self._slab is not None and not self._is_shared:
            self.frame_progress_s = self.last_active_s

    # Requests

    async def _run_frames(self) -> None:
        """Start the request of every whole frame, each when its predecessors allow."""
        slab = self._slab
        assert slab is not None
        view = slab.view
        turn_left = TURN_REQUESTS_MAX
        while self._end - self._start >= _FRAME_PREFIX.size:
            start = self._start
            size, api_key = _FRAME_PREFIX.unpack_from(view, start)
            size_max = self._frame_bytes_max if api_key == PRODUCE_KEY else self._bare_bytes_max
            if not REQUEST_SIZE_BYTES_MIN <= size <= size_max:
                if api_key in CONTROLLER_KEYS and self._host.serves_controllers:
                    size_max = min(self._frame_bytes_max, CONTROLLER_REQUEST_BYTES_MAX)
                self._check_size(size, size_max)
            frame_end = start + _SIZE_BYTES + size
            if frame_end > self._end:
                return
            self._last_was_large = size > SMALL_READ_BYTES
            self.frame_progress_s = None
            if api_key == PRODUCE_KEY:
                while self.parked is not None or self.send_queue or self._pipeline_full():
                    await self._wait()
            else:
                while self.parked is not None or self.outbox or self.send_queue:
                    await self._wait()
            self._start = frame_end
            answer = self.dispatch(Request(self, slab, view, start + _SIZE_BYTES, frame_end))
            if answer is not None and not isinstance(answer, _ANSWERS):
                answer = await answer
                self.last_active_s = trio.current_time()
            if answer is not None:
                self.answer(answer)
            elif self.outbox and self.outbox[0].done:
                self.flush()
            turn_left -= 1
            if not turn_left:
                turn_left = TURN_REQUESTS_MAX
                await trio.lowlevel.checkpoint()
            if self.closed:
                return

    def _pipeline_full(self) -> bool:
        return len(self.outbox) >= PIPELINED_REQUESTS_MAX or self.outbox_bytes >= PIPELINED_BYTES_MAX

    async def _wait(self) -> None:
        """Until `wake`: an answer left, there is room, or the connection is closed (ClosedResourceError)."""
        self._wake = trio.Event()
        await self._wake.wait()
        if self.closed:
            raise trio.ClosedResourceError

    def wake(self) -> None:
        """Whatever this connection's task waits for may have come true."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    # Answers

    def answer(self, answer: bytes | list[Part]) -> None:
        """Send the answer of the request in progress (parked or not); it is the only one outstanding."""
        if self.parked is not None:
            self.parked = None
            self.last_active_s = trio.current_time()
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
        count = len(outbox)
        frames = []
        while outbox and outbox[0].done and (self.closed or not self._is_ending):
            produce = outbox.popleft()
            self.outbox_bytes -= produce.size_bytes
            if produce.frame:
                frames.append(produce.frame)
            elif produce.refusal is not None:
                self._explain(produce.refusal)
                self._is_ending = True
        if self.closed:
            return
        if frames:
            self.send_queue.append(frames[0] if len(frames) == 1 else b"".join(frames))
            self.last_active_s = trio.current_time()
            self._send()
        elif len(outbox) < count:
            self._sent()

    def _send(self) -> None:
        if self._drain_running:
            return
        try:
            finished = push(self.sock, self.send_queue)
        except (OSError, ShortFileError) as error:
            self._lost("Sending to", error)
            return
        if finished:
            self._sent()
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
        except (OSError, ShortFileError) as error:
            self._lost("Sending to", error)
        except trio.ClosedResourceError:
            pass  # closed by somebody else, who has said why
        finally:
            self._drain_running = False
        self._sent()

    def _sent(self) -> None:
        """All that may leave has left: go on, or end if a refused Produce came next."""
        if self._is_ending and not self.send_queue:
            self.close()
        self.wake()

    # End

    def _explain(self, reason: object) -> None:
        """One line, however much is wrong."""
        if not self._is_explained:
            self._is_explained = True
            log.warning("Closing connection from %s: %s", self.peer_host, reason)

    def _lost(self, what: str, error: Exception) -> None:
        """Peers come and go; a segment that ends early or cannot be read is worth a line."""
        if not self.closed:
            from_network = isinstance(error, ConnectionError | TimeoutError)
            log.log(logging.DEBUG if from_network else logging.WARNING, "%s %s: %s", what, self.peer_host, error)
            self.close()

    def close(self) -> None:
        """Idempotent. Slabs of requests in flight stay theirs until storage has answered (REVIEW item 10)."""
        if self.closed:
            return
        self.closed = True
        self._abandon()
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        release_parts(self.send_queue)
        self._host.receive.withdraw(self)
        self.wake()
        self._host.connection_closed(self)


def _peer_host(sock: socket.socket) -> str:
    """The peer's address without its port, IPv4 in its own form; `local` for the controller's socket pair."""
    try:
        name = sock.getpeername()
    except OSError:
        return "unknown"
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else "local"

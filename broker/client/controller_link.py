"""Requests of the front end to its node's controller process: admin requests forwarded, its own asked.

What: one stream of Kafka frames, matched by correlation ids of the link's own, so that no request waits behind
another; a request is forwarded with only that id changed, and its answer goes back with the client's.
Why own requests are marked: on a node that does not lead the cluster they are passed on to the one that does,
while clients are told NOT_CONTROLLER, as Kafka does. The mark is a client id that `broker.apis.forwarding`
takes out of requests that were not made here.
Why one link object outlives the process: when the controller process is restarted, the supervisor hands over
a fresh stream; what was unanswered then has an unknown outcome and its client's connection is closed, so
that the client asks again.
Runs in: front end. Owner: its reader task.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterable
from typing import Any

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import decode_response, encode_request
from broker.protocol.messages import request_class
from broker.protocol.topic_names import is_valid_topic_name

log = logging.getLogger(__name__)

ANSWER_WAIT_S_MAX = 120.0
FRAME_BYTES_MAX = 64 << 20
AUTO_CREATE_VERSION = 7
AUTO_CREATE_TIMEOUT_MS = 0
BROKER_DEFAULT = -1
OWN_REQUESTS = "\0ottla"
"""Client id of the front end's own requests on this stream."""

CORRELATION_POSITION = 4
"""In a request without its size prefix, in every version of the header; an answer begins with it."""

_SIZE = struct.Struct(">i")
_CORRELATION = struct.Struct(">i")


class ControllerUnavailableError(Exception):
    """No answer: the controller process went away or did not answer in time; the outcome is unknown."""


class _Pending:
    __slots__ = ("answer", "arrived")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.answer: bytes | None = None


class ControllerLink:
    """Serialises writers; the reader hands each answer to whoever waits for it."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._next_correlation_id = 0
        self._creating: set[str] = set()
        self._write_lock = trio.Lock()
        self._pending: dict[int, _Pending] = {}
        self._stream = self._start(sock)

    def _start(self, sock: socket.socket) -> trio.SocketStream | None:
        stream = _stream(sock)
        self._nursery.start_soon(self._read_answers, stream)
        return stream

    def replace(self, sock: socket.socket) -> None:
        """The controller process was restarted: use the fresh stream."""
        self._fail_all()
        old, self._stream = self._stream, None
        if old is not None:
            trio.lowlevel.notify_closing(old.socket)
            old.socket.close()
        self._write_lock = trio.Lock()
        self._stream = self._start(sock)

    async def _read_answers(self, stream: trio.SocketStream) -> None:
        try:
            while True:
                (size,) = _SIZE.unpack(await _exactly(stream, _SIZE.size))
                if not _CORRELATION.size <= size <= FRAME_BYTES_MAX:
                    raise ControllerUnavailableError(f"frame of {size} bytes from the controller process")
                answer = await _exactly(stream, size)
                # Whoever asked may have stopped waiting.
                pending = self._pending.pop(_CORRELATION.unpack_from(answer)[0], None)
                if pending is not None:
                    pending.answer = answer
                    pending.arrived.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ControllerUnavailableError) as error:
            if stream is self._stream:
                log.warning("Controller process: %s; waiting for its successor", error or "stream closed")
                self._stream = None
                self._fail_all()

    def _fail_all(self) -> None:
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            entry.arrived.set()

    def _new_correlation_id(self) -> int:
        self._next_correlation_id = (self._next_correlation_id + 1) & 0x7FFFFFFF
        return self._next_correlation_id

    async def _exchange(self, correlation_id: int, frame: bytes) -> bytes:
        """Send one frame, wait for its answer (without size prefix)."""
        pending = _Pending()
        try:
            with trio.move_on_after(ANSWER_WAIT_S_MAX):
                await self._send(correlation_id, frame, pending)
                await pending.arrived.wait()
        finally:
            self._pending.pop(correlation_id, None)
        if pending.answer is None:
            raise ControllerUnavailableError("the controller process did not answer")
        return pending.answer

    async def _send(self, correlation_id: int, frame: bytes, pending: _Pending) -> None:
        async with self._write_lock:
            if self._stream is None:
                raise ControllerUnavailableError("the controller process is being restarted")
            self._pending[correlation_id] = pending
            try:
                await self._stream.send_all(frame)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ControllerUnavailableError("the controller process is gone") from error

    async def forward(self, request: memoryview) -> bytes:
        """The controller's answer to a request of somebody else (header and body as they came), as a frame.

        The answer carries the sender's own correlation id. Raises ControllerUnavailableError when the
        outcome is unknown.
        """
        correlation_id = self._new_correlation_id()
        frame = bytearray(_SIZE.pack(len(request)) + bytes(request))
        (theirs,) = _CORRELATION.unpack_from(request, CORRELATION_POSITION)
        _CORRELATION.pack_into(frame, _SIZE.size + CORRELATION_POSITION, correlation_id)
        answer = await self._exchange(correlation_id, bytes(frame))
        return _SIZE.pack(len(answer)) + _CORRELATION.pack(theirs) + answer[_CORRELATION.size:]

    async def request(self, api_key: ApiKey, version: int, message: Any) -> Any:
        """One request of this broker's own."""
        correlation_id = self._new_correlation_id()
        frame = encode_request(api_key, version, correlation_id, OWN_REQUESTS, message)
        answer = await self._exchange(correlation_id, frame)
        return decode_response(api_key, version, memoryview(answer), 0, len(answer))[1]

    async def auto_create(self, names: Iterable[str]) -> dict[str, ErrorCode]:
        """Create topics with the broker's defaults; what Metadata says about each meanwhile (behaviour 19).

        The controller answers once they are stored, before they have leaders.
        """
        errors: dict[str, ErrorCode] = {}
        for name in names:
            if not is_valid_topic_name(name):
                errors[name] = ErrorCode.INVALID_TOPIC_EXCEPTION
            elif name in self._creating:
                errors[name] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        wanted = [name for name in names if name not in errors]
        if wanted:
            self._creating.update(wanted)
            try:
                errors.update(await self._create(wanted))
            finally:
                self._creating.difference_update(wanted)
        return errors

    async def _create(self, names: list[str]) -> dict[str, ErrorCode]:
        create = request_class(ApiKey.CREATE_TOPICS)
        topics = [
            create.CreatableTopic(name=name, num_partitions=BROKER_DEFAULT, replication_factor=BROKER_DEFAULT)
            for name in names
        ]
        message = create(topics=topics, timeout_ms=AUTO_CREATE_TIMEOUT_MS)
        try:
            answer = await self.request(ApiKey.CREATE_TOPICS, AUTO_CREATE_VERSION, message)
        except ControllerUnavailableError as error:
            log.warning("Creating topics %s: %s", ", ".join(names), error)
            return dict.fromkeys(names, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return {result.name: _while_creating(result) for result in answer.topics}


def _while_creating(result: Any) -> ErrorCode:
    """The time-out of 0 has passed, or somebody else was quicker: the topic is there, its leaders follow."""
    if result.error_code in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.TOPIC_ALREADY_EXISTS):
        return ErrorCode.LEADER_NOT_AVAILABLE
    if result.error_code == ErrorCode.NOT_CONTROLLER:
        log.info("Creating topic %s: nobody leads the cluster at the moment", result.name)
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    log.warning("Creating topic %s: %s", result.name, result.error_message or result.error_code)
    return ErrorCode(result.error_code)


def _stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def _exactly(stream: trio.SocketStream, size_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        more = await stream.receive_some(size_bytes - len(received))
        if not more:
            raise ControllerUnavailableError("stream closed")
        received += more
    return bytes(received)

"""A helper process: answers requests from one socket until its peer closes it.

Runs in: helper processes, forked by the supervisor for one storage thread or for the front end; they may be
killed at any moment without harm, for they only read files. No state between requests.

Requests are control messages (`storage.ipc.control`): {kind, request_id, ...arguments}; the file is named by
`path` or comes as a descriptor beside the message (which survives a rename). Answers:

    {kind: "answer", request_id, result}               what fits a datagram
    {kind: "answer", request_id, size_bytes} + memfd   msgpack of the result in a memfd
    {kind: "failure", request_id, errno, message}      errno 0: our request was wrong, not the disk

A helper asked to compact a log (`clean_log`) does that and nothing else from then on: see cleaner_main.

An error in our own code is not answered: the process ends with its traceback, and the peer sees a closed
socket, as after a kill.
"""
from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final

import msgpack

from storage.fs import OS_FILES
from storage.helpers.cleaner_main import CLEAN_LOG, cleaner_main
from storage.helpers.record_reading import read_records
from storage.helpers.segment_scan import ScanStart, scan_segment
from storage.helpers.timestamp_lookup import max_timestamp_lookup, timestamp_lookup
from storage.ipc.control import (
    DATAGRAM_SIZE_BYTES_MAX,
    ControlClosedError,
    ControlSocket,
    close_descriptors,
)

# A result that packs to more than this goes into a memfd; the rest of the datagram is the frame around it.
INLINE_RESULT_SIZE_BYTES_MAX: Final = DATAGRAM_SIZE_BYTES_MAX - 1024

ANSWER: Final = "answer"
FAILURE: Final = "failure"

_REPLACED_BY_DESCRIPTOR: Final = frozenset({"path"})

Message = dict[str, Any]


class RequestError(Exception):
    """The request names no known kind, or lacks an argument: the caller's bug."""


def helper_main(sock: socket.socket) -> int:
    """Serve until the peer closes; the exit code of the process. `sock`: AF_UNIX SEQPACKET."""
    control = ControlSocket(sock)
    poller = select.poll()
    poller.register(control.fileno(), select.POLLIN)
    while True:
        try:
            received = control.receive_nowait()
            if received is None:
                poller.poll()
                continue
            message, fds = received
            try:
                if message["kind"] == CLEAN_LOG:
                    return cleaner_main(control, message, fds)
                _serve(control, message, fds)
            finally:
                close_descriptors(fds)
        except ControlClosedError:
            control.close()
            return 0


def _serve(control: ControlSocket, message: Message, fds: list[int]) -> None:
    answer: Message = {"kind": ANSWER, "request_id": message.get("request_id")}
    try:
        result = answer_request(message, fds)
    except OSError as error:
        answer |= {"kind": FAILURE, "errno": error.errno or 0, "message": str(error)}
        control.send(answer)
        return
    except RequestError as error:
        answer |= {"kind": FAILURE, "errno": 0, "message": str(error)}
        control.send(answer)
        return
    packed = msgpack.packb(result)
    if len(packed) <= INLINE_RESULT_SIZE_BYTES_MAX:
        control.send(answer | {"result": result})
        return
    fd = _memfd_of(packed)
    try:
        control.send(answer | {"size_bytes": len(packed)}, [fd])
    finally:
        os.close(fd)


def answer_request(message: Message, fds: list[int]) -> list[Any]:
    """The result of one request as a plain list. Raises OSError, RequestError."""
    kind = message["kind"]
    if kind not in _HANDLERS:
        raise RequestError(f"no request of kind {kind!r}")
    handler, required = _HANDLERS[kind]
    missing = required - message.keys() - (_REPLACED_BY_DESCRIPTOR if fds else frozenset())
    if missing:
        raise RequestError(f"{kind} without {sorted(missing)}")
    return handler(message, fds)


def _scan_segment(message: Message, _: list[int]) -> list[Any]:
    scan = scan_segment(message["path"], message["start_position"], message["base_offset"],
                        message["index_interval_bytes"], start=ScanStart(*message.get("start", ())),
                        verify_crc=message.get("verify_crc", True))
    return list(scan)


def _timestamp_lookup(message: Message, fds: list[int]) -> list[Any]:
    return _with_descriptor(message, fds, lambda fd: list(timestamp_lookup(
        fd, message["start_position"], message["limit"], message["timestamp"],
        starting_offset=message.get("starting_offset", 0))))


def _max_timestamp_lookup(message: Message, fds: list[int]) -> list[Any]:
    return _with_descriptor(message, fds, lambda fd: list(max_timestamp_lookup(
        fd, message["start_position"], message["limit"], message["timestamp"])))


def _read_records(message: Message, fds: list[int]) -> list[Any]:
    return _with_descriptor(message, fds, lambda fd: list(read_records(
        fd, message["start_position"], message["limit"], message["size_bytes_max"])))


def _with_descriptor(message: Message, fds: list[int], work: Callable[[int], list[Any]]) -> list[Any]:
    if fds:
        return work(fds[0])
    fd = OS_FILES.open_read(message["path"])
    try:
        return work(fd)
    finally:
        OS_FILES.close(fd)


_LOOKUP_KEYS: Final = frozenset({"path", "start_position", "limit", "timestamp"})
# kind: (function, keys without which the request is wrong)
_HANDLERS: Final[dict[str, tuple[Callable[[Message, list[int]], list[Any]], frozenset[str]]]] = {
    "scan_segment": (_scan_segment,
                     frozenset({"path", "start_position", "base_offset", "index_interval_bytes"})),
    "timestamp_lookup": (_timestamp_lookup, _LOOKUP_KEYS),
    "max_timestamp_lookup": (_max_timestamp_lookup, _LOOKUP_KEYS),
    "read_records": (_read_records, frozenset({"path", "start_position", "limit", "size_bytes_max"})),
}


def _memfd_of(data: bytes) -> int:
    fd = os.memfd_create("ottla helper result", os.MFD_CLOEXEC)
    try:
        OS_FILES.pwrite_all(fd, data, 0)
    except OSError:
        os.close(fd)
        raise
    return fd

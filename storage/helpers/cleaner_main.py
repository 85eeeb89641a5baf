"""A helper that compacts one log: its messages, its priority, its end.

Runs in: a helper process, from the first message `clean_log` on until storage closes the socket. May be killed
at any moment: it writes into `.cleaned` files only, and those count for nothing until storage renames them.

    clean_log   + memfd (msgpack of a MapRequest and the map's size)  -> answer: MapResult
    clean_group + memfd (msgpack of a GroupRequest) + the four files  -> answer: GroupResult
    anything that went wrong                                          -> failure, as helpers.main; then the end

Low priority: other work of the machine goes first (nice 5, best-effort I/O class at its lowest level). Not lower:
under the idle class a busy disk would never be compacted, and with nice 10 beside eight busy processes on two cores
4 seconds of work took 49 (measured), so that a busy node would only ever grow.
"""
from __future__ import annotations

import mmap
import os
import select
from typing import Any, Final

import msgpack
import psutil

from storage.cleaner.offset_map import OffsetMap
from storage.errors import CorruptLogError
from storage.fs import OS_FILES
from storage.helpers.cleaning import (
    CleaningStoppedError,
    GroupRequest,
    LogCleaning,
    MapRequest,
    Outputs,
)
from storage.ipc.control import ControlClosedError, ControlSocket, close_descriptors

CLEAN_LOG: Final = "clean_log"
CLEAN_GROUP: Final = "clean_group"
ANSWER: Final = "answer"
FAILURE: Final = "failure"
NICE_INCREMENT: Final = 5
IO_LEVEL_LOWEST: Final = 7
# A request names every segment of a log and every producer: far below this.
REQUEST_SIZE_BYTES_MAX: Final = 1 << 28

Message = dict[str, Any]


def cleaner_main(control: ControlSocket, message: Message, fds: list[int]) -> int:
    """Serve one cleaning that begins with `message`; the exit code. Raises ControlClosedError at its end."""
    lower_priority()
    poller = select.poll()
    poller.register(control.fileno(), select.POLLIN)
    try:
        cleaning = _begin(message, fds, lambda: _is_closed(poller))
        control.send({"kind": ANSWER, "result": list(cleaning.build_map())})
        while True:
            received = control.receive_nowait()
            if received is None:
                poller.poll()
                continue
            _, fds = received
            try:
                group = GroupRequest(*_payload(fds[0]))
                result = cleaning.clean_group(group, Outputs(*fds[1:]))
            finally:
                close_descriptors(fds)
            control.send({"kind": ANSWER, "result": list(result)})
    except CleaningStoppedError:
        return 0
    except (CorruptLogError, ValueError) as error:  # ValueError: a map too small for one key
        control.send({"kind": FAILURE, "errno": 0, "message": str(error)})
    except OSError as error:
        control.send({"kind": FAILURE, "errno": error.errno or 0, "message": str(error)})
    return _until_closed(control, poller)


def _begin(message: Message, fds: list[int], should_stop: Any) -> LogCleaning:
    request = MapRequest(*_payload(fds[0]))
    buffer = mmap.mmap(-1, max(message["map_size_bytes"], mmap.PAGESIZE))
    whole = memoryview(buffer)[:message["map_size_bytes"]]
    return LogCleaning(request, OffsetMap(whole, request.load_factor), OS_FILES, should_stop)


def _payload(fd: int) -> list[Any]:
    size_bytes = OS_FILES.size_bytes(fd)
    buffer = bytearray(size_bytes)
    OS_FILES.read_into(fd, buffer, 0)
    return list(msgpack.unpackb(buffer, use_list=False))


def payload_memfd(fields: tuple[Any, ...]) -> int:
    """A request's fields as a memfd; the caller closes it."""
    fd = os.memfd_create("ottla cleaning", os.MFD_CLOEXEC)
    try:
        OS_FILES.pwrite_all(fd, msgpack.packb(fields), 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def lower_priority() -> None:
    """What the system refuses is not worth a failure: the work is the same, only less modest."""
    process = psutil.Process()
    process.nice(min(process.nice() + NICE_INCREMENT, 19))
    process.ionice(psutil.IOPRIO_CLASS_BE, IO_LEVEL_LOWEST)


def _is_closed(poller: select.poll) -> bool:
    """Nothing is sent to a helper at work: whatever comes is the end."""
    return bool(poller.poll(0))


def _until_closed(control: ControlSocket, poller: select.poll) -> int:
    """After a failure: storage reads it and closes."""
    try:
        while True:
            received = control.receive_nowait()
            if received is None:
                poller.poll()
            else:
                close_descriptors(received[1])
    except ControlClosedError:
        return 0

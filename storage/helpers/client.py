"""The asking side of a helper, for threads that may block: storage's recovery pool.

Runs in: storage, one client per pool thread and helper, used by that thread alone. The wait for the answer
releases the interpreter lock. The front end asks without blocking, through its own control socket: the
messages are described in `storage.helpers.main`.
"""
from __future__ import annotations

import select
import socket
from typing import Any, Final

import msgpack

from storage.errors import StorageError
from storage.fs import OS_FILES
from storage.helpers.main import ANSWER, FAILURE
from storage.helpers.segment_scan import FROM_THE_BEGINNING, ScanStart, SegmentScan
from storage.ipc.control import ControlClosedError, ControlFormatError, ControlSocket, close_descriptors

# A scan of one segment gives at most some hundreds of MB (a log of nothing but tiny transactions).
RESULT_SIZE_BYTES_MAX: Final = 1 << 30


class HelperDiedError(StorageError):
    """The helper is gone, or talks nonsense; ask again through a new one."""


class HelperClient:
    """One helper's socket. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._control = ControlSocket(sock)
        self._poller = select.poll()
        self._poller.register(self._control.fileno(), select.POLLIN)
        self._request_id = 0

    def scan_segment(self, path: str, start_position: int, base_offset: int, index_interval_bytes: int, *,
                     start: ScanStart = FROM_THE_BEGINNING, verify_crc: bool = True) -> SegmentScan:
        """As `segment_scan.scan_segment`, over there. Raises OSError as it, and HelperDiedError."""
        result = self.ask("scan_segment", path=path, start_position=start_position, base_offset=base_offset,
                          index_interval_bytes=index_interval_bytes, start=list(start), verify_crc=verify_crc)
        return SegmentScan(*result)

    def ask(self, kind: str, **arguments: Any) -> list[Any]:
        """Send one request and wait for its answer, however long the helper works on it."""
        self._request_id += 1
        try:
            self._control.send({"kind": kind, "request_id": self._request_id} | arguments)
            message, fds = self._wait_for_answer()
        except (ControlClosedError, ControlFormatError) as error:
            raise HelperDiedError(f"helper did not answer {kind}: {error}") from error
        try:
            return self._result(message, fds)
        finally:
            close_descriptors(fds)

    def close(self) -> None:
        """The helper exits when it sees this."""
        self._control.close()

    def _wait_for_answer(self) -> tuple[dict[str, Any], list[int]]:
        while (received := self._control.receive_nowait()) is None:
            self._poller.poll()
        return received

    def _result(self, message: dict[str, Any], fds: list[int]) -> list[Any]:
        if message["kind"] == FAILURE and message["errno"]:
            raise OSError(message["errno"], message["message"])
        if message["kind"] != ANSWER or message.get("request_id") != self._request_id:
            raise HelperDiedError(f"unexpected answer {message}")
        if not fds:
            return list(message["result"])
        size = message["size_bytes"]
        if not 0 <= size <= RESULT_SIZE_BYTES_MAX:
            raise HelperDiedError(f"result of {size} bytes")
        buffer = bytearray(size)
        if OS_FILES.read_into(fds[0], buffer, 0) != size:
            raise HelperDiedError("result cut off")
        return list(msgpack.unpackb(buffer))

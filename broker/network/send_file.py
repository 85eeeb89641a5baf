"""Sending answers: bytes by `send`, record ranges by `os.sendfile`, both resumed where the socket stopped.

What: the parts of one answer in order, and the non-blocking step that pushes as much as the socket takes.
Why no TCP_CORK: it stalls for 200 ms when the last part does not fill a packet (measured, design 12).
Why 0 from sendfile is fatal: the file ended before the promised count (truncation); the frame's length has
already left, so only closing the connection is honest (REVIEW item 23).
Runs in: front end. Owner of the parts: the connection that sends them.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Any

SENDFILE_TURN_BYTES = 1 << 20
"""Most that one connection pushes before others get their turn."""


class ShortFileError(Exception):
    """A segment ended before the bytes that the answer had promised."""


class FileRange:
    """`size_bytes` of a pinned segment descriptor from `position`; released once sent or given up.

    cold: the page cache did not have the range when asked; it is read ahead by a worker before it is sent.
    """

    __slots__ = ("cold", "descriptor", "directory_index", "position", "size_bytes")

    def __init__(
        self, descriptor: Any, position: int, size_bytes: int, cold: bool, directory_index: int
    ) -> None:
        self.descriptor = descriptor
        self.directory_index = directory_index
        self.position = position
        self.size_bytes = size_bytes
        self.cold = cold

    def release(self) -> None:
        self.descriptor.release()


Part = bytes | memoryview | FileRange


def push(sock: socket.socket, parts: deque[Part]) -> bool:
    """Send from the left until all is gone (True), the socket is full or the turn is over (False).

    Parts are consumed as they leave. A cold range stops the push (False): it needs its worker first.
    Raises OSError as the socket does (EAGAIN excepted), ShortFileError for a truncated file.
    """
    budget = SENDFILE_TURN_BYTES
    out_fd = sock.fileno()
    while parts:
        part = parts[0]
        try:
            if isinstance(part, FileRange):
                if part.cold or budget <= 0:
                    return False
                sent = _send_range(out_fd, part, budget)
                budget -= sent
                if part.size_bytes:
                    continue
                part.release()
            else:
                sent = sock.send(part, _more(parts))
                if sent < len(part):
                    parts[0] = memoryview(part)[sent:]
                    continue
        except BlockingIOError:
            return False
        parts.popleft()
    return True


def _more(parts: deque[Part]) -> int:
    """MSG_MORE when warm file bytes follow at once: header and data share a packet, the reader wakes once.

    Unlike TCP_CORK nothing can stay behind: the next call of the same turn, or of the drain task, pushes it.
    """
    following = parts[1] if len(parts) > 1 else None
    return socket.MSG_MORE if isinstance(following, FileRange) and not following.cold else 0


def _send_range(out_fd: int, part: FileRange, budget_bytes: int) -> int:
    sent = os.sendfile(out_fd, part.descriptor.fd, part.position, min(part.size_bytes, budget_bytes))
    if sent == 0:
        raise ShortFileError(f"segment ended {part.size_bytes} bytes before the promised end")
    part.position += sent
    part.size_bytes -= sent
    return sent


def release_parts(parts: deque[Part]) -> None:
    """Give up everything unsent (the connection is gone)."""
    while parts:
        part = parts.popleft()
        if isinstance(part, FileRange):
            part.release()

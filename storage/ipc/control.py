"""Control messages: one msgpack map per SEQPACKET datagram, with descriptors beside it if need be.

Runs in: all processes. Each end belongs to one thread.
For what concerns a whole directory or process; work on partitions goes through the rings, and what may
be large goes over streams. A datagram is under 64 KB: the kernel's default buffer of 208 KB refuses
larger ones with EMSGSIZE, and sending waits when a few are unread.
What arrives is checked as if a stranger had sent it: size, shape, descriptors.
"""
from __future__ import annotations

import array
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgpack

DATAGRAM_SIZE_BYTES_MAX = 64 * 1024 - 1
DESCRIPTORS_MAX = 64
"""Per datagram; the kernel's own limit is 253. The largest message carries two per storage process."""
SEND_WAIT_MS_MAX = 5000
"""A peer that reads nothing for so long is as good as dead."""
_INT_SIZE = array.array("i").itemsize
_ANCILLARY_SIZE = socket.CMSG_SPACE(DESCRIPTORS_MAX * _INT_SIZE)


class ControlError(Exception):
    """Base of this module's errors."""


class ControlFormatError(ControlError):
    """The peer sent something that is not a control message; any descriptors with it are closed."""


class ControlTooLargeError(ControlError):
    """Our own bug: a message that does not fit a datagram."""


class ControlClosedError(ControlError):
    """The peer closed its end or is dead."""


class ControlBacklogError(ControlError):
    """The peer does not read: its buffer stayed full."""


class ControlSocket:
    """One end. Poll `fileno()` for reading, then `receive_nowait()` until None."""

    def __init__(self, sock: socket.socket) -> None:
        """sock: AF_UNIX SEQPACKET, owned by this object from now on; made non-blocking."""
        sock.setblocking(False)
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[ControlSocket, ControlSocket]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: dict[str, Any], fds: Sequence[int] = (), wait_ms: int = SEND_WAIT_MS_MAX) -> None:
        """Send, waiting up to `wait_ms` while the peer's buffer is full (0: not at all).

        The descriptors are duplicated for the peer; the caller still owns its own. Errors: all of this
        module's but ControlFormatError.
        """
        datagram = encode(message)
        deadline = time.monotonic() + wait_ms / 1000
        while not self._try_send(datagram, fds):
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not self._wait_writable(left_ms):
                raise ControlBacklogError(f"peer left {message.get('kind')!r} unread for {wait_ms} ms")

    def send_nowait(self, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        """As `send`, but False instead of waiting."""
        return self._try_send(encode(message), fds)

    def receive_nowait(self) -> tuple[dict[str, Any], list[int]] | None:
        """Next message and its descriptors (owned by the caller, close-on-exec); None if there is none now.

        ControlClosedError once the peer is gone and everything it sent was read; ControlFormatError.
        """
        try:
            datagram, ancillary, flags, _ = self._socket.recvmsg(
                DATAGRAM_SIZE_BYTES_MAX + 1, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise ControlClosedError("peer is gone") from error
        fds = _descriptors(ancillary)
        if not datagram and not fds:
            raise ControlClosedError("peer closed its end")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ControlFormatError("datagram or descriptors beyond the limit")
            return decode(datagram), fds
        except ControlFormatError:
            close_descriptors(fds)
            raise

    def close(self) -> None:
        self._socket.close()

    def _try_send(self, datagram: bytes, fds: Sequence[int]) -> bool:
        try:
            if fds:
                socket.send_fds(self._socket, [datagram], list(fds))
            else:
                self._socket.send(datagram)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise ControlClosedError("peer is gone") from error
        return True

    def _wait_writable(self, wait_ms: float) -> bool:
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLOUT)
        return bool(poller.poll(wait_ms))


def encode(message: dict[str, Any]) -> bytes:
    """Bytes of one datagram. ControlTooLargeError, or ValueError when `kind` is missing."""
    if not isinstance(message.get("kind"), str):
        raise ValueError("a control message needs a kind")
    datagram: bytes = msgpack.packb(message)
    if len(datagram) > DATAGRAM_SIZE_BYTES_MAX:
        raise ControlTooLargeError(f"{message['kind']!r} of {len(datagram)} bytes, "
                                   f"allowed are {DATAGRAM_SIZE_BYTES_MAX}")
    return datagram


def decode(datagram: bytes) -> dict[str, Any]:
    """The message of one datagram. ControlFormatError for anything else."""
    if len(datagram) > DATAGRAM_SIZE_BYTES_MAX:
        raise ControlFormatError(f"datagram of {len(datagram)} bytes")
    try:
        message = msgpack.unpackb(datagram)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ControlFormatError(f"not msgpack: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ControlFormatError("not a map with a kind")
    return message


def close_descriptors(fds: Sequence[int]) -> None:
    """Close descriptors that came with a message nobody wants."""
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[:len(data) - len(data) % _INT_SIZE])
            fds.extend(numbers)
    return fds

"""The socket under kazoo: connected in time, read in large pieces, and cut from another thread.

kazoo asks its handler for sockets and for `select`, which is where these of its faults can be mended:
- It reads one TLS record's worth of bytes but waits on the descriptor for the next answer, although that one
  may have been decrypted already: `wait_ready` looks at what is buffered first.
- It waits one whole session timeout for one server to accept, within which the session dies: here the
  servers share it, as in Java's client.
- It keeps the negotiated session timeout to itself: `StoreSocket` reads it from the first answer.

Runs in: controller; all of it on kazoo's thread, but for `cut`.
"""
from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any

from broker.config.zookeeper_rules import TlsSettings

_log = logging.getLogger(__name__)

_READ_BYTES = 65536
# Answer to the connect request: length of the frame, protocol version, session timeout.
_GREETING = struct.Struct(">iii")


class StoreSocket:
    """What kazoo takes for a socket, made non-blocking by it after the connection stands."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = b""
        self._position = 0
        self._greeting = b""

    @property
    def session_timeout_ms(self) -> int:
        """As the server granted it; 0 = the session that was asked for is over."""
        return max(0, int(_GREETING.unpack(self._greeting)[2]))

    def recv(self, size: int) -> bytes:
        if self._position == len(self._received):
            self._received, self._position = self._socket.recv(_READ_BYTES), 0
            if len(self._greeting) < _GREETING.size:
                self._greeting = (self._greeting + self._received)[:_GREETING.size]
        chunk = self._received[self._position:self._position + size]
        self._position += len(chunk)
        return chunk

    def pending(self) -> int:
        """Bytes that can be read without waiting, decrypted or already here."""
        here = len(self._received) - self._position
        return here + (self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0)

    def send(self, data: Any) -> int:
        return self._socket.send(data)

    def setblocking(self, flag: bool) -> None:
        self._socket.setblocking(flag)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def cut(self) -> None:
        """End the connection from any thread: kazoo's reads and writes fail at once. The TLS layer is left
        alone, as its own thread may be in it."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("the connection to ZooKeeper was gone already: %s", error)


def connect(address: tuple[str, int], host_name: str, timeout_seconds: float,
            tls: TlsSettings | None) -> StoreSocket:
    """host_name: as configured, for the certificate. Raises OSError (TLS errors are among them)."""
    connected = socket.create_connection(address, timeout_seconds)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connected = tls_context(tls).wrap_socket(connected, server_hostname=host_name)
    except BaseException:
        connected.close()
        raise
    return StoreSocket(connected)


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Made anew for each connection, so that renewed certificates are taken without a restart.

    Without a trust store the system's authorities are trusted, as Java trusts its own; with one, only those
    in it. Raises OSError when a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion[tls.lowest_version]
    context.maximum_version = ssl.TLSVersion[tls.highest_version]
    context.check_hostname = tls.check_host_name
    if tls.trust_path is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(tls.trust_path)
    if tls.key_path is not None:
        # Never None: OpenSSL would ask the terminal for the password of an encrypted key.
        password = "" if tls.key_password is None else tls.key_password.value
        context.load_cert_chain(tls.key_path, password=lambda: password)
    return context


def wait_ready(readers: Sequence[Any], writers: Sequence[Any], _unused: Sequence[Any] = (),
               timeout_seconds: float | None = None) -> tuple[list[Any], list[Any], list[Any]]:
    """As `select.select`, for descriptors of any number and for what waits in a `StoreSocket`."""
    waiting = [each for each in readers if isinstance(each, StoreSocket) and each.pending()]
    poll = select.poll()
    masks: dict[int, int] = {}
    for mask, group in ((select.POLLIN, readers), (select.POLLOUT, writers)):
        for each in group:
            masks[each.fileno()] = masks.get(each.fileno(), 0) | mask
    for descriptor, mask in masks.items():
        poll.register(descriptor, mask)
    timeout_ms = None if timeout_seconds is None else math.ceil(timeout_seconds * 1000)
    found = dict(poll.poll(0 if waiting else timeout_ms))
    failed = select.POLLERR | select.POLLHUP | select.POLLNVAL
    ready_to_read = [each for each in readers
                     if each in waiting or found.get(each.fileno(), 0) & (select.POLLIN | failed)]
    ready_to_write = [each for each in writers if found.get(each.fileno(), 0) & (select.POLLOUT | failed)]
    return ready_to_read, ready_to_write, []

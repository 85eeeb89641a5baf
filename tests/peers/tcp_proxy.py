"""A TCP proxy whose network can break: connections cut, bytes held back without an end, new ones refused.

Why not a firewall: it needs no rights, works for one connection among many on one machine, and what it does
is known to the microsecond. A black hole holds bytes back rather than losing them, as TCP would: after `heal`
they arrive, late.
Runs in: the test process; two threads per connection, so that tests with and without an event loop can use it.
"""
from __future__ import annotations

import contextlib
import socket
import struct
import threading

Address = tuple[str, int]

_CHUNK_BYTES = 65536
_CONNECT_SECONDS_MAX = 5
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger 0: the other side gets a reset


class TcpProxy:
    """Listens from the constructor on; `close` ends it."""

    def __init__(self, target: Address, port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.accepted_count = 0
        threading.Thread(target=self._accept, name="proxy accepts", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def connect_string(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection; new ones pass."""
        with self._lock:
            victims, self._open = self._open, set()
        for victim in victims:
            _end(victim)

    def refuse(self) -> None:
        """Reset every connection, and each new one at once."""
        self._refuses = True
        self.cut()

    def black_hole(self) -> None:
        """Nothing passes, either way, and nobody is told. New connections are accepted and get no answer."""
        self._flows.clear()

    def heal(self) -> None:
        """Forward again, beginning with what was held back."""
        self._refuses = False
        self._flows.set()

    def close(self) -> None:
        _end(self._listener)
        self._refuses = True
        self._flows.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.accepted_count += 1
            threading.Thread(target=self._serve, args=(client,), name="proxy serves", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        if self._refuses:
            self._forget(client)
            return
        self._flows.wait()
        try:
            server = socket.create_connection(self._target, _CONNECT_SECONDS_MAX)
        except OSError:
            self._forget(client)
            return
        server.settimeout(None)
        with self._lock:
            is_still_wanted = client in self._open
            if is_still_wanted:
                self._open.add(server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not is_still_wanted:  # cut while it was being connected
            _end(server)
            return
        threading.Thread(target=self._pump, args=(server, client), name="proxy back", daemon=True).start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                self._flows.wait()
                target.sendall(chunk)
        self._flows.wait()
        self._forget(source, target)

    def _forget(self, *ended: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(ended)
        for each in ended:
            _end(each)


def _end(connection: socket.socket) -> None:
    """Closes it with a reset, waking whoever reads from it (SHUT_WR would end it politely instead)."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RD)
    connection.close()

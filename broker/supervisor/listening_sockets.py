"""The listening sockets: bound before anything is forked, handed to each front end in turn.

Runs in: supervisor; accepted on by the front end only. Bound here so that connections queue while a front
end restarts, instead of being refused.
"""
from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from broker.supervisor.errors import StartError

BACKLOG_DEFAULT = 50
"""Kafka's socket.listen.backlog.size."""


def bind_listeners(
    listeners: Sequence[Any], backlog: int = BACKLOG_DEFAULT, receive_buffer_bytes: int = -1
) -> list[tuple[Any, socket.socket]]:
    """(listener, non-blocking listening socket) of each; port 0 takes a free one.

    receive_buffer_bytes: for the connections too, -1 leaves it to the kernel.
    StartError names the listener and the reason; nothing stays bound then.
    """
    bound: list[tuple[Any, socket.socket]] = []
    try:
        for listener in listeners:
            bound.append((listener, _bind(listener, backlog, receive_buffer_bytes)))
    except OSError as error:
        for _, sock in bound:
            sock.close()
        listener = listeners[len(bound)]
        where = f"{listener.name}://{listener.host or ''}:{listener.port}"
        raise StartError(f"listener {where} cannot be opened: {error.strerror or error}") from error
    return bound


def describe(listener: Any, sock: socket.socket) -> str:
    """`PLAINTEXT://127.0.0.1:9092`, with the real port."""
    host, port = sock.getsockname()[:2]
    return f"{listener.name}://{f'[{host}]' if ':' in host else host}:{port}"


def _bind(listener: Any, backlog: int, receive_buffer_bytes: int) -> socket.socket:
    family, address = _address(listener.host or "", listener.port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not listener.host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if receive_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """An empty host is every interface, of both families where the system has IPv6 (as Java does)."""
    if not host:
        return (socket.AF_INET6, ("::", port)) if _ipv6_works() else (socket.AF_INET, ("0.0.0.0", port))
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                  flags=socket.AI_PASSIVE)[0]
    return family, address


def _ipv6_works() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True

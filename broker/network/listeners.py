"""Accepting connections: one task per listening socket, each accepted socket gets its own task.

Why accept in a burst: 5,000 clients that reconnect after a restart should not cost 5,000 wake-ups.
Why a connection above max.connections waits in the kernel's queue: Kafka neither refuses nor accepts it.
Runs in: front end. The sockets were bound by the supervisor, so that a restarted front end finds queued
connections instead of having refused them.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Protocol

import trio

log = logging.getLogger(__name__)

BURST_MAX = 64
OUT_OF_DESCRIPTORS_PAUSE_S = 0.1
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE_BEFORE_ACCEPT = frozenset({
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET, errno.ENOPROTOOPT, errno.EOPNOTSUPP,
})  # fmt: skip
"""accept(2): errors of the connection that was waiting, not of the listening socket."""


class Doorkeeper(Protocol):
    """Who decides about connections; `accepted` gets non-blocking sockets and owns them."""

    def has_slot(self, listener_name: str) -> bool: ...

    async def wait_for_slot(self, listener_name: str) -> None: ...

    def accepted(self, sock: socket.socket, listener_name: str) -> None: ...


async def accept_loop(listening: socket.socket, listener_name: str, door: Doorkeeper) -> None:
    """Until cancelled."""
    listening.setblocking(False)
    is_short = False
    while True:
        await door.wait_for_slot(listener_name)
        await trio.lowlevel.wait_readable(listening)
        shortage = _accept_burst(listening, listener_name, door)
        if shortage is not None:
            if not is_short:
                log.error("Cannot accept on listener %s: %s; raise LimitNOFILE", listener_name, shortage)
            await trio.sleep(OUT_OF_DESCRIPTORS_PAUSE_S)
        is_short = shortage is not None


def _accept_burst(listening: socket.socket, listener_name: str, door: Doorkeeper) -> OSError | None:
    """Accept what is queued and allowed; returns what the process is short of, if that ended it."""
    for _ in range(BURST_MAX):
        if not door.has_slot(listener_name):
            return None
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _GONE_BEFORE_ACCEPT:
                continue
            if error.errno in _OUT_OF_DESCRIPTORS:
                return error
            raise
        sock.setblocking(False)
        door.accepted(sock, listener_name)
    return None

"""Accepting connections: one task per listening socket, each accepted socket gets its own task.

Why accept in a burst: 5,000 clients that reconnect after a restart should not cost 5,000 wake-ups.
Runs in: front end. The sockets were bound by the supervisor, so that a restarted front end finds queued
connections instead of having refused them.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

import trio

log = logging.getLogger(__name__)

BURST_MAX = 64
OUT_OF_DESCRIPTORS_PAUSE_S = 0.1
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE_BEFORE_ACCEPT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH})


async def accept_loop(listening: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
    """Until cancelled. `accepted` gets non-blocking sockets and owns them."""
    listening.setblocking(False)
    while True:
        await trio.lowlevel.wait_readable(listening)
        pause = _accept_burst(listening, accepted)
        if pause:
            await trio.sleep(pause)


def _accept_burst(listening: socket.socket, accepted: Callable[[socket.socket], None]) -> float:
    for _ in range(BURST_MAX):
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return 0.0
        except OSError as error:
            if error.errno in _GONE_BEFORE_ACCEPT:
                continue
            if error.errno in _OUT_OF_DESCRIPTORS:
                log.error("Cannot accept a connection: %s; raise LimitNOFILE", error)
                return OUT_OF_DESCRIPTORS_PAUSE_S
            raise
        sock.setblocking(False)
        accepted(sock)
    return 0.0

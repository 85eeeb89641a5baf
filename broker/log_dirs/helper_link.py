"""The front end's use of helper processes: per-record Python that must not run on the loop.

What: one helper, asked of the supervisor at first use, kept while it is used and let go after a pause; one
request at a time on a datagram pair.
Why a process: a Python-bound thread beside the loop raises everybody's latency from 0.03 to 5 ms (REVIEW 6).
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import trio

from storage.ipc.control import ControlClosedError, ControlSocket, close_descriptors

log = logging.getLogger(__name__)

OFFSET_LOOKUPS = "offset look-ups"
COORDINATOR_LOADING = "coordinator loading"
"""Purposes; each has a helper of its own, so that a look-up does not wait for a coordinator's log."""

ANSWER_WAIT_S_MAX = 10.0
IDLE_S_MAX = 30.0


class HelperUnavailableError(Exception):
    """No helper answered in time: the look-up can be retried."""


class HelperLink:
    """`ask_supervisor` requests a helper; `arrived` is called when its socket comes."""

    def __init__(
        self, ask_supervisor: Callable[[dict[str, Any]], None], purpose: str = OFFSET_LOOKUPS
    ) -> None:
        self._ask_supervisor = ask_supervisor
        self._purpose = purpose
        self._socket: ControlSocket | None = None
        self._arrival = trio.Event()
        self._turn = trio.Lock()
        self._last_used_s = 0.0

    def arrived(self, sock: ControlSocket) -> None:
        """The supervisor forked a helper for us."""
        self._drop()
        self._socket = sock
        self._arrival.set()

    async def ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send `message`, return the answer. Raises HelperUnavailableError; a lost helper is replaced once."""
        async with self._turn:
            for _ in range(2):
                with trio.move_on_after(ANSWER_WAIT_S_MAX):
                    sock = await self._connected()
                    answer = await self._exchange(sock, message, fds)
                    if answer is not None:
                        return answer
                self._drop()
        raise HelperUnavailableError("no helper process answered")

    async def _connected(self) -> ControlSocket:
        if self._socket is None:
            self._arrival = trio.Event()
            self._ask_supervisor({"kind": "helper_wanted", "purpose": self._purpose})
            await self._arrival.wait()
        assert self._socket is not None
        return self._socket

    async def _exchange(
        self, sock: ControlSocket, message: dict[str, Any], fds: Sequence[int]
    ) -> dict[str, Any] | None:
        self._last_used_s = trio.current_time()
        try:
            if not sock.send_nowait(message, fds):
                return None
            while True:
                await trio.lowlevel.wait_readable(sock.fileno())
                received = sock.receive_nowait()
                if received is not None:
                    return _whole_answer(*received)
        except (ControlClosedError, trio.ClosedResourceError) as error:
            log.warning("Helper process: %s", error)
            return None

    def drop_if_idle(self) -> None:
        """Let an unused helper end; called by a slow timer."""
        if self._socket is not None and trio.current_time() - self._last_used_s > IDLE_S_MAX:
            self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _whole_answer(answer: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """A result too large for a datagram lies in a memfd beside it: memory, so reading it waits for no disk."""
    try:
        if fds:
            answer["result"] = msgpack.unpackb(os.pread(fds[0], answer["size_bytes"], 0))
    finally:
        close_descriptors(fds)
    return answer

"""Questions to a storage process about its whole directory: what it holds, how large it is.

What: datagrams, answered in chunks under 64 KB; partition work never goes this way (it has the rings).
Runs in: front end. Owner: the front end's one instance per directory.
"""

from __future__ import annotations

from typing import Any

import trio

from storage.ipc.control import ControlClosedError, ControlSocket

ANSWER_WAIT_S_MAX = 30.0


class DialogError(Exception):
    """The storage process did not answer."""


class StorageDialog:
    """One question at a time; answers of an earlier generation are dropped."""

    def __init__(self, sock: ControlSocket) -> None:
        self._socket = sock
        self._turn = trio.Lock()
        self._number = 0

    async def partitions(self) -> list[list[Any]]:
        """[topic, partition, topic id, slot, slot generation, checkpointed high watermark] of each log."""
        return await self._ask("list", "partitions")

    async def sizes(self) -> list[list[Any]]:
        """[topic, partition, bytes] of each log."""
        return await self._ask("stats", "sizes")

    async def _ask(self, kind: str, answer_kind: str) -> list[list[Any]]:
        async with self._turn:
            self._number += 1
            items: list[list[Any]] = []
            with trio.fail_after(ANSWER_WAIT_S_MAX):
                try:
                    self._socket.send({"kind": kind, "number": self._number})
                    while True:
                        answer = await self._receive()
                        if answer["kind"] != answer_kind or answer.get("number") != self._number:
                            continue
                        items += answer["items"]
                        if answer["last"]:
                            return items
                except ControlClosedError as error:
                    raise DialogError(str(error)) from error

    async def _receive(self) -> dict[str, Any]:
        while True:
            received = self._socket.receive_nowait()
            if received is not None:
                return received[0]
            await trio.lowlevel.wait_readable(self._socket.fileno())

"""One connection: its bytes are sent, its answers gathered, and both compared with the oracle."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import dataclass, field

import trio
import trio.testing

from tests.broker.network.harness import Peer
from tests.fuzz.oracle import Fate, Verdict, check

PATIENCE_S = 10**8
"""On a virtual clock: the longest wait of a fetch that bent bytes may have asked for is 25 days."""

AFTERMATH_S = 5.0
"""Likewise: what still happens after the last answer (acks=0) has happened by then."""


@dataclass
class Conversation:
    """`answered`: correlation ids in the order of the answers. `was_closed`: by the broker.
    pauses: let the broker finish with what it has, now and then (only where all of it is in this process)."""

    peer: Peer
    pieces: list[bytes]
    verdicts: list[Verdict]
    rng: random.Random
    answered: list[int] = field(default_factory=list)
    was_closed: bool = False
    patience_s: float = PATIENCE_S
    aftermath_s: float = AFTERMATH_S
    pauses: bool = True
    was_reset: bool = False

    async def hold(self) -> None:
        """Send everything, wait for everything; leaves the connection open if the broker does."""
        self._ended = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gather)
            await self._send()
            with trio.fail_after(self.patience_s):
                await self._ended.wait()
            if not self.was_closed:
                with trio.move_on_after(self.aftermath_s):
                    self._ended = trio.Event()
                    await self._ended.wait()
            nursery.cancel_scope.cancel()

    def check(self) -> None:
        check(self.verdicts, self.answered, self.was_closed, self.was_reset)

    @property
    def _is_complete(self) -> bool:
        wanted = sum(verdict.fate is Fate.ANSWER for verdict in self.verdicts)
        must_close = bool(self.verdicts) and self.verdicts[-1].fate is Fate.CLOSE
        return self.was_closed or (len(self.answered) == wanted and not must_close)

    async def _send(self) -> None:
        try:
            for piece in self.pieces:
                await self.peer.send(piece)
                if self.pauses and self.rng.random() < 0.2:
                    await trio.testing.wait_all_tasks_blocked()
        except (BrokenPipeError, ConnectionResetError):
            self._note_reset()  # the reader sees the end, and what was answered before it

    async def _gather(self) -> None:
        while True:
            if self._is_complete:
                self._ended.set()
            correlation_id = await self._receive_answer()
            if correlation_id is None:
                self.was_closed = True
                self._ended.set()
                return
            self.answered.append(correlation_id)

    async def _receive_answer(self) -> int | None:
        """None at the end; nothing of an answer may stand before it, unless the connection was reset."""
        try:
            head = await self.peer.receive(8)
            if not head:
                return None
            size, correlation_id = struct.unpack(">ii", head.ljust(8))
            is_whole = len(head) == 8 and len(await self.peer.receive(size - 4)) == size - 4
        except ConnectionResetError:
            self._note_reset()
            return None
        assert is_whole or self.was_reset, "an answer was cut off"
        return int(correlation_id) if is_whole else None

    def _note_reset(self) -> None:
        """Socket pairs lose nothing of what was sent before."""
        self.was_reset = self.peer.sock.family != socket.AF_UNIX

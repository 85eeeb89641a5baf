"""One connection: its bytes are sent, its answers gathered, and both compared with the oracle."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import trio
import trio.testing

from tests.broker.network.harness import Peer
from tests.fuzz.oracle import Fate, Verdict, check

PATIENCE_S = 10**8
"""Virtual: the longest wait of a fetch that bent bytes may have asked for is 25 days."""

AFTERMATH_S = 5
"""Virtual: what still happens after the last answer (acks=0) has happened by then."""


@dataclass
class Conversation:
    """`answered`: correlation ids in the order of the answers. `was_closed`: by the broker."""

    peer: Peer
    pieces: list[bytes]
    verdicts: list[Verdict]
    rng: random.Random
    answered: list[int] = field(default_factory=list)
    was_closed: bool = False

    async def hold(self) -> None:
        """Send everything, wait for everything; leaves the connection open if the broker does."""
        self._ended = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gather)
            await self._send()
            with trio.fail_after(PATIENCE_S):
                await self._ended.wait()
            if not self.was_closed:
                with trio.move_on_after(AFTERMATH_S):
                    self._ended = trio.Event()
                    await self._ended.wait()
            nursery.cancel_scope.cancel()

    def check(self) -> None:
        check(self.verdicts, self.answered, self.was_closed)

    @property
    def _is_complete(self) -> bool:
        wanted = sum(verdict.fate is Fate.ANSWER for verdict in self.verdicts)
        must_close = bool(self.verdicts) and self.verdicts[-1].fate is Fate.CLOSE
        return self.was_closed or (len(self.answered) == wanted and not must_close)

    async def _send(self) -> None:
        try:
            for piece in self.pieces:
                await self.peer.send(piece)
                if self.rng.random() < 0.2:
                    await trio.testing.wait_all_tasks_blocked()
        except (BrokenPipeError, ConnectionResetError):
            return  # the reader sees the end, and what was answered before it

    async def _gather(self) -> None:
        while True:
            if self._is_complete:
                self._ended.set()
            head = await self._receive(8)
            if len(head) < 8:
                assert head == b"", "an answer was cut off"
                self.was_closed = True
                self._ended.set()
                return
            size, correlation_id = struct.unpack(">ii", head)
            assert len(await self._receive(size - 4)) == size - 4, "an answer was cut off"
            self.answered.append(correlation_id)

    async def _receive(self, size_bytes: int) -> bytes:
        try:
            return await self.peer.receive(size_bytes)
        except ConnectionResetError:
            return b""

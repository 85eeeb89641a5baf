"""Many clients at once, little memory, peers that vanish, storage that dies: nobody hurts anybody else.

A client that behaves, or misbehaves but stays, gets what the oracle says; afterwards no slab is in use. The
seed is the test's parameter.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fuzz import inputs
from tests.fuzz.conversation import Conversation
from tests.fuzz.oracle import judge
from tests.fuzz.site import MIB, REQUEST_BYTES_MAX, Site, running_site
from tests.fuzz.test_any_bytes import check_others, run

STORM_S = 3.0


class Storm:
    """One site and what happens to it."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._conversations: list[Conversation] = []
        self._vanishing = 0

    async def rage(self) -> None:
        rng = self._random
        async with trio.open_nursery() as nursery:
            for _ in range(rng.randint(2, 8)):
                nursery.start_soon(self._converse, rng.randrange(2**32))
            for _ in range(rng.randint(0, 4)):
                nursery.start_soon(self._vanish, rng.randrange(2**32))
            for _ in range(rng.choice((0, 0, 1, 2))):
                await trio.sleep(rng.random() * STORM_S)
                await self._site.kill_storage()
        self._check_lines()

    async def _converse(self, seed: int) -> None:
        rng = random.Random(seed)
        await trio.sleep(rng.random() * STORM_S)
        data = inputs.stream(rng)
        verdicts = judge(data, REQUEST_BYTES_MAX)
        conversation = Conversation(self._site.connect(), inputs.fragments(rng, data), verdicts, rng)
        self._conversations.append(conversation)
        await conversation.hold()
        conversation.check()
        conversation.peer.close()

    async def _vanish(self, seed: int) -> None:
        """Goes in the middle of something, with or without a word, reading or not."""
        rng = random.Random(seed)
        self._vanishing += 1
        await trio.sleep(rng.random() * STORM_S)
        peer = self._site.connect()
        data = inputs.stream(rng)
        with trio.move_on_after(rng.random()), suppress(ConnectionError):
            await peer.send(data[: rng.randint(0, len(data))])
            if rng.random() < 0.5:
                await trio.sleep(rng.random())
            await peer.receive(rng.choice((1, 100, 10**6)))
        if rng.random() < 0.3:
            with suppress(OSError):
                peer.sock.shutdown(socket.SHUT_WR)
            await trio.sleep(rng.random())
        peer.close()

    def _check_lines(self) -> None:
        closed = sum(conversation.was_closed for conversation in self._conversations)
        assert closed <= len(self._site.lines.closings) <= closed + self._vanishing


async def hold_storm(directory: Path, seed: int) -> None:
    budget_bytes = random.Random(seed).choice((MIB // 4, MIB, 64 * MIB))
    async with running_site(directory, budget_bytes, seed) as site:
        await Storm(site, seed).rage()
        await trio.sleep(1)
        await check_others(site)


@pytest.mark.parametrize("seed", range(30))
def test_a_storm(tmp_path: Path, seed: int) -> None:
    run(hold_storm, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_a_storm_among_many(tmp_path: Path, seed: int) -> None:
    run(hold_storm, tmp_path, seed)

"""Producer ids for idempotent producers: handed out from blocks that the controller reserves.

What: the current block, the next one fetched when nine tenths are used (inter-broker facts, 6).
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

PREFETCH_AT = 0.9

Block = tuple[int, int]
"""First id and how many."""


class ProducerIds:
    """`allocate_block` asks the controller; it may raise, then whoever waits gets None."""

    def __init__(self, allocate_block: Callable[[], Awaitable[Block | None]], nursery: trio.Nursery) -> None:
        self._allocate_block = allocate_block
        self._nursery = nursery
        self._next = self._end = 0
        self._prefetch_at = 0
        self._spare: Block | None = None
        self._fetching = False

    def next_id(self) -> int | None:
        """An id that nobody else has, or None while a block is awaited (COORDINATOR_LOAD_IN_PROGRESS)."""
        if self._next == self._end and self._spare is not None:
            first, count = self._spare
            self._spare = None
            self._next, self._end = first, first + count
            self._prefetch_at = first + int(count * PREFETCH_AT)
        if self._next >= self._prefetch_at and self._spare is None and not self._fetching:
            self._fetching = True
            self._nursery.start_soon(self._fetch)
        if self._next == self._end:
            return None
        producer_id = self._next
        self._next += 1
        return producer_id

    async def _fetch(self) -> None:
        try:
            self._spare = await self._allocate_block()
        finally:
            self._fetching = False

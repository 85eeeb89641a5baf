"""One change of a partition at a time: controller requests and the reopening after a storage death take turns.

Why: both are several ring entries with waits between them; a reopening that has remembered epoch 4 must not
become leader after a LeaderAndIsr with epoch 5 has.
Runs in: front end. Owner: `RoleChanges`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """Locks by partition, kept only while somebody holds or wants them."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, int], trio.Lock] = {}

    @asynccontextmanager
    async def of(self, topic: str, partition: int) -> AsyncIterator[None]:
        key = (topic, partition)
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(key, None)

    def __len__(self) -> int:
        return len(self._locks)

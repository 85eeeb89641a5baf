"""Fetches that wait for data: woken by a partition's change or answered when their time is up.

What: the set of parked fetches, one timer for all of them.
Why ticks: a deadline of its own per fetch costs a timer and a wake-up each; rounded up to a common tick,
a hundred idle consumers share a few wake-ups (REVIEW item 31).
Runs in: front end. Owner: the front end's one instance. The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

TICK_S = 0.020


class ParkedFetch(Protocol):
    """A fetch in the purgatory."""

    def expire(self) -> None: ...


class FetchPurgatory:
    """Deadlines in buckets of TICK_S; the timer task sleeps until the first bucket, or until there is one."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._buckets: dict[int, set[ParkedFetch]] = {}
        self._first_tick: int | None = None
        self._earlier = trio.Event()

    def park(self, fetch: ParkedFetch, wait_s: float) -> int:
        """Enter with a deadline rounded up to the next tick; the key is for `unpark`."""
        tick = int((self._clock() + wait_s) / TICK_S) + 1
        self._buckets.setdefault(tick, set()).add(fetch)
        if self._first_tick is None or tick < self._first_tick:
            self._first_tick = tick
            self._earlier.set()
        return tick

    def unpark(self, fetch: ParkedFetch, tick: int) -> None:
        """The fetch was answered or its connection is gone; empty buckets are dropped when due."""
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(fetch)

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def expire_due(self, now_s: float) -> None:
        """Answer everything whose tick has passed."""
        due = [tick for tick in self._buckets if tick * TICK_S <= now_s]
        for tick in sorted(due):
            for fetch in self._buckets.pop(tick):
                fetch.expire()
        self._first_tick = min(self._buckets, default=None)

    async def run(self) -> None:
        """The one timer."""
        while True:
            self._earlier = trio.Event()
            if self._first_tick is None:
                await self._earlier.wait()
                continue
            with trio.move_on_at(self._first_tick * TICK_S):
                await self._earlier.wait()
            self.expire_due(self._clock())

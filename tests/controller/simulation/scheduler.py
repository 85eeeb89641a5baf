"""Trio made repeatable and stoppable: everything that happens in a simulated world follows from its seed.

- Trio's scheduler shuffles runnable tasks with a generator of its own, as under Hypothesis; here it is seeded.
- Time is a MockClock that jumps to the next deadline when nobody can run.
- A node is stopped as SIGSTOP stops a process tree: its tasks stay where they are, wherever that is, while
  timers run out and messages arrive; woken, they find all of it at once. A task belongs to the node whose
  tasks started it.
- `Timeline` calls back at given times from one task that belongs to no node: the network and the servers.

Runs in: the test process. The first and third use parts of trio that are not public (0.35).
"""
from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

T = TypeVar("T")
OWNER: ContextVar[str | None] = ContextVar("OWNER", default=None)


class HoldingQueue(deque):  # type: ignore[type-arg]
    """Trio's queue of runnable tasks, without those of stopped owners."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, list[trio.lowlevel.Task]] = {}

    def append(self, task: trio.lowlevel.Task) -> None:
        owner = task.context.get(OWNER)
        if owner in self._held:
            self._held[owner].append(task)
        else:
            super().append(task)

    def hold(self, owner: str) -> None:
        runnable = list(self)
        self.clear()
        self._held.setdefault(owner, [])
        for task in runnable:
            self.append(task)

    def release(self, owner: str) -> None:
        for task in self._held.pop(owner, ()):
            super().append(task)


def install_holding_queue() -> HoldingQueue:
    """Inside a run, before any owner's task exists."""
    runner = trio_run.GLOBAL_RUN_CONTEXT.runner
    queue = HoldingQueue()
    for task in runner.runq:
        queue.append(task)
    runner.runq = queue
    return queue


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    allowed = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    state = trio_run._r.getstate()
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._r.setstate(state)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]


def run_repeatably(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """`trio.run` in virtual time, the same for the same seed."""
    with _deterministic(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


class Timeline:
    """Callbacks at points of virtual time, those of one moment in the order in which they were asked for."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._scope = trio.CancelScope()

    def now(self) -> float:
        return trio.current_time()

    def at(self, when: float, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, callback))
        if self._due[0][1] == self._count:
            self._scope.deadline = when

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self.at(trio.current_time() + seconds, callback)

    async def run(self) -> None:
        while True:
            deadline = self._due[0][0] if self._due else math.inf
            with trio.CancelScope(deadline=deadline) as self._scope:
                await trio.sleep_forever()
            while self._due and self._due[0][0] <= trio.current_time():
                heapq.heappop(self._due)[2]()

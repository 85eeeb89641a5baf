"""Helpers on demand: a bounded number, the rest waits its turn.

Runs in: supervisor. PURE. Owned by lifecycle.py.
A helper ends when its requester closes the socket between them, and may be killed at any time; nobody
restarts it, the requester asks again. `_running` maps a helper to its requester.
"""
from __future__ import annotations

from collections import deque

from broker.supervisor.events import ForkHelper, Kill, Outbox, ProcessId, Role

WAITING_MAX = 1024
"""Requests beyond the number of helpers; more can only come from a requester that counts wrongly."""
PURPOSE_LENGTH_MAX = 64
"""It becomes part of a process title."""


class HelperPool:
    """Who runs, who waits."""

    def __init__(self, count_max: int, out: Outbox) -> None:
        self._count_max = count_max
        self._out = out
        self._running: dict[ProcessId, ProcessId] = {}
        self._purposes: dict[ProcessId, str] = {}
        self._waiting: deque[tuple[ProcessId, str]] = deque()
        self._next_number = 1

    def want(self, requester: ProcessId, purpose: str) -> None:
        """Fork a helper for `requester` now, or when one ends."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((requester, purpose[:PURPOSE_LENGTH_MAX]))
        self.fork_waiting()

    def helper_died(self, helper: ProcessId) -> None:
        self._running.pop(helper, None)
        self._purposes.pop(helper, None)
        self.fork_waiting()

    def helper_not_forked(self, helper: ProcessId) -> None:
        """Its request is the next again; the caller calls `fork_waiting` after a while."""
        self._waiting.appendleft((self._running.pop(helper), self._purposes.pop(helper)))

    def requester_died(self, requester: ProcessId) -> None:
        """Its helpers are killed, for they may hold its slabs; what it still waited for is forgotten."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != requester)
        for helper in self._of(requester):
            self._out.add(Kill(helper))

    def runs_for(self, requester: ProcessId) -> bool:
        """Whether a helper of that requester is still alive."""
        return bool(self._of(requester))

    def _of(self, requester: ProcessId) -> list[ProcessId]:
        return [helper for helper, owner in self._running.items() if owner == requester]

    def fork_waiting(self) -> None:
        """As many of the waiting as there is room for."""
        while self._waiting and len(self._running) < self._count_max:
            requester, purpose = self._waiting.popleft()
            helper = ProcessId(Role.HELPER, self._next_number)
            self._next_number += 1
            self._running[helper] = requester
            self._purposes[helper] = purpose
            self._out.add(ForkHelper(helper, requester, purpose))

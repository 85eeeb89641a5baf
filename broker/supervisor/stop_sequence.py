"""The stop: front end, then storage, then controller, each asked first and killed when it is too slow.

Runs in: supervisor. PURE. Owned by lifecycle.py, which shares its deadlines.
Storage gets as long as it reports progress: flushing a large node takes what it takes, and a missing
clean-shutdown marker costs a recovery at the next start.
"""
from __future__ import annotations

from collections.abc import Sequence

from broker.supervisor.events import Kill, Level, Notice, Notify, Outbox, ProcessId, Role, Say, Send

STOP_MS_MAX = {
    Role.FRONT_END: 10_000,
    Role.STORAGE: 30_000,
    Role.CONTROLLER: 10_000,
}
"""From `stop`, or its last progress, to the exit. Answers under way are given up first, then
the disk, then the ZooKeeper session."""
HURRIED_STOP_MS_MAX = 2000
"""After a second signal."""


class StopSequence:
    """deadlines: shared with the lifecycle; entries of ("stop", process) are set and cleared here."""

    def __init__(self, out: Outbox, deadlines: dict[tuple[str, ProcessId], int]) -> None:
        self._out = out
        self._deadlines = deadlines
        self._asked: set[ProcessId] = set()
        self._hurried = 0

    def advance(self, stages: Sequence[Sequence[ProcessId]], now_ms: int) -> bool:
        """stages: living processes, in the order in which they stop. True when none is left."""
        for living in stages:
            for process in living:
                if process not in self._asked:
                    self._ask(process, now_ms)
            if living:
                return False
        return True

    def note_progress(self, process: ProcessId, now_ms: int) -> None:
        """It is slow but works."""
        if ("stop", process) in self._deadlines and not self._hurried:
            self._deadlines[("stop", process)] = now_ms + STOP_MS_MAX[process.role]

    def hurry(self, now_ms: int) -> None:
        """Second signal: two seconds each. Third: now."""
        self._hurried += 1
        allowed_ms = HURRIED_STOP_MS_MAX if self._hurried == 1 else 0
        self._out.add(Say(Level.WARN, f"stopping faster: {allowed_ms} ms for each process"))
        for key in self._deadlines:
            self._deadlines[key] = min(self._deadlines[key], now_ms + allowed_ms)

    def _ask(self, process: ProcessId, now_ms: int) -> None:
        self._asked.add(process)
        if self._hurried > 1:
            self._out.add(Kill(process))
            return
        self._out.add(Send(process, {"kind": "stop"}))
        self._out.add(Notify(Notice.EXTEND))
        allowed_ms = HURRIED_STOP_MS_MAX if self._hurried else STOP_MS_MAX[process.role]
        self._deadlines[("stop", process)] = now_ms + allowed_ms

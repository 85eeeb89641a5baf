"""What a storage process does by the clock, and how long it may sleep.

What: named tasks with an interval, each due at a monotonic time; a task that has nothing to do until an
append comes is not due at all, so that an idle directory causes no wake-ups.
Runs in: storage, writer thread. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Task:
    """due_ms None: asleep until `wake`. run: returns whether to run again after interval_ms."""

    name: str
    interval_ms: int
    run: Callable[[], bool]
    due_ms: int | None


class Schedule:
    """A handful of tasks; linear look-ups are fine."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def add(self, name: str, interval_ms: int, run: Callable[[], bool], first_due_ms: int | None) -> None:
        self._tasks[name] = Task(name, max(interval_ms, 1), run, first_due_ms)

    def wake(self, name: str, now_ms: int) -> None:
        """There is something to do: run it one interval from now, unless it is due already."""
        task = self._tasks[name]
        if task.due_ms is None:
            task.due_ms = now_ms + task.interval_ms

    def run_due(self, now_ms: int) -> None:
        for task in self._tasks.values():
            if task.due_ms is not None and task.due_ms <= now_ms:
                task.due_ms = None
                if task.run() and task.due_ms is None:
                    task.due_ms = now_ms + task.interval_ms

    def timeout_ms(self, now_ms: int) -> int | None:
        """Until the next due task; None: nothing is due."""
        due = [task.due_ms for task in self._tasks.values() if task.due_ms is not None]
        return max(min(due) - now_ms, 0) if due else None

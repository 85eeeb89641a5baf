"""Deadlines of all groups in one sorted structure. PURE: time is an argument, nobody is called back.

Why a later deadline is only noted: every heartbeat moves its member's deadline, and nearly all of them move it
again before it is due. The structure is touched when the earlier deadline comes up, once a session time-out
instead of once a heartbeat.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from sortedcontainers import SortedList

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """At most one deadline per key. Times in milliseconds of one monotonic clock."""

    def __init__(self) -> None:
        self._deadlines: dict[Key, int] = {}
        self._queued: dict[Key, tuple[int, int]] = {}
        self._queue: SortedList = SortedList()
        self._keys: dict[int, Key] = {}
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: Key, deadline_ms: int) -> None:
        """The key's deadline from now on."""
        self._deadlines[key] = deadline_ms
        queued = self._queued.get(key)
        if queued is not None:
            if queued[0] <= deadline_ms:
                return
            self._unqueue(key)
        self._enqueue(key, deadline_ms)

    def cancel(self, key: Key) -> None:
        """Nothing happens if it has none."""
        if self._deadlines.pop(key, None) is not None:
            self._unqueue(key)

    def deadline(self, key: Key) -> int | None:
        return self._deadlines.get(key)

    def next_wake_ms(self) -> int | None:
        """When to call `take_due`; it may turn out to have been too early."""
        return self._queue[0][0] if self._queue else None

    def take_due(self, now_ms: int) -> list[Key]:
        """Keys whose deadline has come, in its order; they have none any more."""
        due: list[tuple[int, Key]] = []
        while self._queue and self._queue[0][0] <= now_ms:
            _, number = self._queue.pop(0)
            key = self._keys.pop(number)
            del self._queued[key]
            if self._deadlines[key] <= now_ms:
                due.append((self._deadlines.pop(key), key))
            else:
                self._enqueue(key, self._deadlines[key])
        due.sort(key=_deadline)
        return [key for _, key in due]

    def _enqueue(self, key: Key, deadline_ms: int) -> None:
        entry = (deadline_ms, self._next_number)
        self._next_number += 1
        self._queue.add(entry)
        self._queued[key] = entry
        self._keys[entry[1]] = key

    def _unqueue(self, key: Key) -> None:
        entry = self._queued.pop(key)
        self._queue.remove(entry)
        del self._keys[entry[1]]


def _deadline(entry: tuple[int, object]) -> int:
    return entry[0]

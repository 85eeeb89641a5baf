"""Batches on their way to ZooKeeper: at most so many requests outstanding, each batch in its order (PURE).

Several tasks may have a batch here at once; they take turns, request by request, so that the read that keeps
the lease alive does not wait behind ten thousand writes of a fail-over.

After a lost connection (`reset`) whatever was outstanding counts no more, and an answer that comes late
all the same belongs to an older round and is not counted twice.

Runs in: controller (trio). Owner: one `ZooKeeperStore`.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from controller.metadata_store.errors import StoreError
from controller.metadata_store.operations import Outcome, Request


class Ticket(NamedTuple):
    """Identifies one request that was sent."""

    batch: Batch
    position: int
    round: int


class Batch:
    """One submit. prepared: what goes on the wire per request, or the error that keeps it from going.

    failure: why the whole batch has no answer. finished is called once, when all are answered or it failed.
    """

    def __init__(self, requests: Sequence[Request], prepared: Sequence[Any],
                 finished: Callable[[], None]) -> None:
        self.requests = requests
        self.prepared = prepared
        self.outcomes: list[Outcome | None] = [
            each if isinstance(each, StoreError) else None for each in prepared]
        self.failure: StoreError | None = None
        self.next_position = 0
        self.unanswered = self.outcomes.count(None)
        self._finished = finished
        self.is_finished = False

    def skip_refused(self) -> bool:
        """Move to the next request that goes on the wire; whether there is one."""
        while self.next_position < len(self.prepared) and self.outcomes[self.next_position] is not None:
            self.next_position += 1
        return self.next_position < len(self.prepared)

    def answer(self, position: int, outcome: Outcome) -> None:
        if self.is_finished:
            return
        self.outcomes[position] = outcome
        self.unanswered -= 1
        if not self.unanswered:
            self.finish()

    def fail(self, failure: StoreError) -> None:
        if not self.is_finished:
            self.failure = failure
            self.finish()

    def finish(self) -> None:
        self.is_finished = True
        self._finished()


class RequestWindow:
    """send(prepared, ticket) must not call back into the window before it returns."""

    def __init__(self, in_flight_max: int, send: Callable[[Any, Ticket], None]) -> None:
        self._in_flight_max = in_flight_max
        self._send = send
        self._unfinished: set[Batch] = set()
        self._unsent: deque[Batch] = deque()
        self._round = 0
        self.in_flight = 0

    def add(self, batch: Batch) -> None:
        if not batch.unanswered:
            batch.finish()
            return
        self._unfinished.add(batch)
        self._unsent.append(batch)
        self._fill()

    def remove(self, batch: Batch) -> None:
        """Nothing more of it is sent; answers to what was sent are dropped."""
        batch.is_finished = True
        self._unfinished.discard(batch)

    def answered(self, ticket: Ticket, outcome: Outcome) -> None:
        ticket.batch.answer(ticket.position, outcome)
        if ticket.round == self._round:
            self.in_flight -= 1
            self._fill()

    def reset(self, failure: StoreError) -> None:
        """The connection is gone: every batch fails, nothing is outstanding."""
        self._round += 1
        self.in_flight = 0
        self._unsent.clear()
        batches, self._unfinished = self._unfinished, set()
        for batch in batches:
            batch.fail(failure)

    def _fill(self) -> None:
        while self._unsent and self.in_flight < self._in_flight_max:
            batch = self._unsent.popleft()
            if batch.is_finished or not batch.skip_refused():
                continue
            position = batch.next_position
            batch.next_position += 1
            self.in_flight += 1
            self._unsent.append(batch)
            self._send(batch.prepared[position], Ticket(batch, position, self._round))

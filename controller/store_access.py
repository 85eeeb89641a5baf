"""The controller's way to the store: it waits for a disk without room, and guards writes by the epoch.

Every change that the controller makes as such is one transaction with a check of its epoch, handed over only
while the lease holds. What a procedure reads or writes counts only if the lease was not interrupted meanwhile:
after an interruption the state is read anew, so half a procedure must not go on with what it knew.

A disk that refuses a write (embedded store) is waited for where the cluster's state hangs on it (`patient`),
and reported at once where a client asked. A lost connection is never waited for here: the event loop finds
out what became of things.

Runs in: controller (trio). Owner: the event loop.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import trio

from controller import znodes
from controller.lease import Lease
from controller.metadata_store.errors import MultiError, StoreUnavailableError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Check,
    Multi,
    MultiResult,
    Operation,
    Outcome,
    Request,
    SessionId,
    WatchEvent,
)
from controller.outside import boottime_ns
from controller.procedures.runtime import ControllerMovedError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

UNAVAILABLE_RETRY_SECONDS = 1.0

REQUESTS_PER_SUBMIT_MAX = 500
"""Of a session that can expire: each answered part moves the lease's deadline, and the lease is asked before
each. The embedded store takes a batch whole, for one fsync."""


class StoreAccess(MetadataStore):
    """The store as the event loop uses it: one session after the other."""

    def __init__(self, store: MetadataStore, lease: Lease, clock_ns: Callable[[], int] = boottime_ns) -> None:
        self.store = store
        self._lease = lease
        self._clock_ns = clock_ns
        self.patient = True

    def replace(self, store: MetadataStore) -> None:
        """A new session; the old one has expired."""
        self.store = store
        self._lease.begin_session(store.session_timeout_ms)

    @property
    def session(self) -> SessionId:
        return self.store.session

    @property
    def session_timeout_ms(self) -> int | None:
        return self.store.session_timeout_ms

    @property
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        return self.store.events

    async def close(self) -> None:
        await self.store.close()

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        """As `MetadataStore.submit`; StoreUnavailableError only while not patient.

        ConnectionLossError may come after a part of the requests has taken effect, as with any batch.
        """
        outcomes: list[Outcome] = []
        for part in self._parts(requests):
            outcomes += await self._submit(part)
        return outcomes

    async def read(self, requests: Sequence[Request]) -> list[Outcome]:
        """For a procedure of the leader. ControllerMovedError when the lease was interrupted meanwhile."""
        changes = self._lease.changes
        outcomes = await self.submit(requests)
        self._check_uninterrupted(changes)
        return outcomes

    async def write(self, epoch_version: int, writes: Sequence[tuple[Operation, ...]]) -> list[Outcome]:
        """One outcome per group of operations, the guard's result left out.

        ControllerMovedError when the epoch has moved on, or this node may not act any more.
        """
        guard = Check(znodes.CONTROLLER_EPOCH, epoch_version)
        changes = self._lease.changes
        outcomes: list[Outcome] = []
        for part in self._parts(writes):
            if not self._lease.may_act(self._clock_ns()):
                raise ControllerMovedError("the lease has run out")
            outcomes += await self._submit([Multi((guard, *operations)) for operations in part])
            self._check_uninterrupted(changes)
        return [_without_guard(outcome) for outcome in outcomes]

    def _check_uninterrupted(self, changes: int) -> None:
        if self._lease.changes != changes:
            raise ControllerMovedError("the lease was interrupted")

    def _parts(self, requests: Sequence[_T]) -> Iterator[Sequence[_T]]:
        size = len(requests) if self.session_timeout_ms is None else REQUESTS_PER_SUBMIT_MAX
        for first in range(0, len(requests), size or 1):
            yield requests[first:first + size]

    async def _submit(self, requests: Sequence[Request]) -> list[Outcome]:
        store = self.store
        is_logged = False
        while True:
            sent_at_ns = self._clock_ns()
            try:
                outcomes = await store.submit(requests)
            except StoreUnavailableError as error:
                if not self.patient:
                    raise
                if not is_logged:
                    _log.error("the metadata store refuses a write, which is tried again every second: %s", error)
                is_logged = True
                await trio.sleep(UNAVAILABLE_RETRY_SECONDS)
            else:
                if store is self.store:
                    self._lease.answered(sent_at_ns)
                return outcomes


def _without_guard(outcome: Outcome) -> Outcome:
    if isinstance(outcome, MultiError):
        if outcome.failed_index == 0:
            raise ControllerMovedError(str(outcome.cause))
        return MultiError(outcome.results[1:], outcome.failed_index - 1)
    assert isinstance(outcome, MultiResult), outcome
    return MultiResult(outcome.results[1:])

"""The controller's way to the store: it waits for a disk without room, and guards writes by the epoch.

Every change that the controller makes as such is one transaction with a check of its epoch. A disk that
refuses a write is waited for where the cluster's state hangs on it (`patient`), and reported at once where a
client asked.

Runs in: controller (trio). Owner: the event loop.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Sequence

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
from controller.procedures.runtime import ControllerMovedError

_log = logging.getLogger(__name__)

UNAVAILABLE_RETRY_SECONDS = 1.0


def boottime_ns() -> int:
    """The lease's clock: it runs while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class StoreAccess(MetadataStore):
    """A store's session as the event loop uses it."""

    def __init__(self, store: MetadataStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self.patient = True

    @property
    def session(self) -> SessionId:
        return self._store.session

    @property
    def session_timeout_ms(self) -> int | None:
        return self._store.session_timeout_ms

    @property
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        return self._store.events

    async def close(self) -> None:
        await self._store.close()

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        """As `MetadataStore.submit`; StoreUnavailableError only while not patient."""
        if not requests:
            return []
        is_logged = False
        while True:
            sent_at_ns = boottime_ns()
            try:
                outcomes = await self._store.submit(requests)
            except StoreUnavailableError as error:
                if not self.patient:
                    raise
                if not is_logged:
                    _log.error("the metadata store refuses a write, which is tried again every second: %s", error)
                is_logged = True
                await trio.sleep(UNAVAILABLE_RETRY_SECONDS)
            else:
                self._lease.answered(sent_at_ns)
                return outcomes

    async def write(self, epoch_version: int, writes: Sequence[tuple[Operation, ...]]) -> list[Outcome]:
        """One outcome per group of operations, the guard's result left out.

        ControllerMovedError when the epoch has moved on, or this node may not act any more.
        """
        if not self._lease.may_act(boottime_ns()):
            raise ControllerMovedError("the lease has run out")
        guard = Check(znodes.CONTROLLER_EPOCH, epoch_version)
        outcomes = await self.submit([Multi((guard, *operations)) for operations in writes])
        return [_without_guard(outcome) for outcome in outcomes]


def _without_guard(outcome: Outcome) -> Outcome:
    if isinstance(outcome, MultiError):
        if outcome.failed_index == 0:
            raise ControllerMovedError(str(outcome.cause))
        return MultiError(outcome.results[1:], outcome.failed_index - 1)
    assert isinstance(outcome, MultiResult), outcome
    return MultiResult(outcome.results[1:])

"""What happens to the session with the store: its events, the lease's deadline, a new session after expiry.

Whatever takes the lease away acts at once, even while a procedure waits for the store (`interrupt`); whatever
gives it back waits for its turn in the event loop's queue. A session is *settled* while every watch is armed
and nothing is left to be found out. The store says when a connection goes and comes, but a request may also
fail by itself: then the keeper's own periodic read finds out when the store answers again.

That read, every ninth of the session time-out, is also what moves the lease's deadline of a quiet leader.

Runs in: controller (trio). Owner: the event loop, in whose nursery the tasks run.
"""
from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from controller import znodes
from controller.events import ConnectionBack, LookWanted, SessionRenewed, WatchFired
from controller.lease import HELD, Lease, LeaseEvent
from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError, StoreError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import EventType, Exists, SessionState
from controller.outside import Outside
from controller.store_access import StoreAccess

_log = logging.getLogger(__name__)

READS_PER_SESSION_TIMEOUT = 9
RENEW_DELAY_SECONDS = 0.1
RENEW_DELAY_SECONDS_MAX = 1.0
DEADLINE_SLEEP_SECONDS_MIN = 0.001
"""The lease's clock and trio's may differ: look again rather than trust one sleep."""

SessionEvent = WatchFired | ConnectionBack | SessionRenewed | LookWanted


class SessionKeeper:
    """interrupt: makes a lease event happen now. post: into the event loop's queue."""

    def __init__(self, access: StoreAccess, lease: Lease, outside: Outside, nursery: trio.Nursery,
                 post: Callable[[SessionEvent], None], interrupt: Callable[[LeaseEvent], None]) -> None:
        self._access = access
        self._lease = lease
        self._outside = outside
        self._nursery = nursery
        self._post = post
        self._interrupt = interrupt
        self._scope = trio.CancelScope()
        self._is_settled = True
        self._is_expired = False
        self._back_is_posted = False
        self._terms = 0

    # Told by the event loop

    def begin(self) -> None:
        """The access has a new session."""
        self._is_settled, self._is_expired, self._back_is_posted = True, False, False
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._attend, self._scope, self._access.store)

    def settling(self) -> None:
        """Everything is about to be read again; a loss from now on counts anew."""
        if not self._is_settled:
            _log.info("the metadata store answers again")
        self._is_settled, self._back_is_posted = True, False

    def lease_held(self) -> None:
        """Watch the deadline from now on."""
        self._terms += 1
        if self._access.session_timeout_ms is not None:
            self._nursery.start_soon(self._watch_deadline, self._terms)

    def failed(self, error: StoreError) -> None:
        """A request ended without an answer."""
        if isinstance(error, SessionExpiredError):
            self._expired()
        else:
            self._lost(str(error))

    # The session

    async def _attend(self, scope: trio.CancelScope, store: MetadataStore) -> None:
        """As long as the session lives."""
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward_events, store)
                if store.session_timeout_ms is not None:
                    nursery.start_soon(self._read_periodically, store, store.session_timeout_ms)

    async def _forward_events(self, store: MetadataStore) -> None:
        async for event in store.events:
            if event.type is not EventType.SESSION:
                self._post(WatchFired(event, store))
            elif event.state is SessionState.SUSPENDED:
                self._lost("the connection is gone")
            elif event.state is SessionState.CONNECTED:
                self._post(ConnectionBack(store))
            else:
                self._expired()

    async def _read_periodically(self, store: MetadataStore, session_timeout_ms: int) -> None:
        period_seconds = session_timeout_ms / 1000 / READS_PER_SESSION_TIMEOUT
        while True:
            await trio.sleep(period_seconds)
            if self._is_settled and self._lease.state not in HELD:
                continue
            try:
                await self._access.submit([Exists(znodes.CONTROLLER_EPOCH)])
            except (SessionExpiredError, ConnectionLossError) as error:
                self.failed(error)
                continue
            if not self._is_settled and not self._back_is_posted:
                self._back_is_posted = True
                self._post(ConnectionBack(store))

    async def _watch_deadline(self, term: int) -> None:
        while term == self._terms and self._lease.state in HELD:
            now_ns = self._outside.boottime_ns()
            if self._lease.has_passed(now_ns):
                _log.warning("no answer of the metadata store for too long: the lease has run out")
                self._interrupt(LeaseEvent.DEADLINE_PASSED)
                return
            deadline_ns = self._lease.deadline_ns
            assert deadline_ns is not None  # else it would have passed
            await trio.sleep(max((deadline_ns - now_ns) / 1e9, DEADLINE_SLEEP_SECONDS_MIN))

    def _lost(self, why: str) -> None:
        if self._is_expired:
            return
        if self._is_settled:
            _log.warning("the metadata store cannot be reached: %s", why)
        self._is_settled = False
        self._interrupt(LeaseEvent.CONNECTION_LOST)

    def _expired(self) -> None:
        if self._is_expired:
            return
        _log.warning("session %#x with the metadata store has expired", self._access.session.id)
        self._is_expired = True
        self._is_settled = False
        self._interrupt(LeaseEvent.SESSION_EXPIRED)
        self._scope.cancel()
        self._nursery.start_soon(self._renew)

    async def _renew(self) -> None:
        """For ever: producing and consuming go on without the store."""
        delay_seconds = RENEW_DELAY_SECONDS
        is_logged = False
        while True:
            try:
                store = await self._outside.open_session()
            except StoreError as error:
                if not is_logged:
                    _log.warning("no new session yet, trying until there is one: %s", error)
                is_logged = True
                await trio.sleep(delay_seconds)
                delay_seconds = min(2 * delay_seconds, RENEW_DELAY_SECONDS_MAX)
            else:
                self._post(SessionRenewed(store))
                return

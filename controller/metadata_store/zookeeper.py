"""The metadata store on ZooKeeper: one object is one session, from its opening to its expiry.

kazoo is loaded when a session is opened, not before: a node with the embedded store does not pay for it.

| state | submit | left by |
|---|---|---|
| CONNECTED | sends | SUSPENDED (connection gone or cut), EXPIRED |
| SUSPENDED | ConnectionLossError | CONNECTED (same session; every watch is gone), EXPIRED |
| EXPIRED | SessionExpiredError, for ever | never; the event is the last one |

A connection that is lost fails every submit under way: what of it took effect is not known. Silence counts as
loss: when a submit waits and nothing at all has been answered for two thirds of the session timeout, the
connection is cut. (kazoo would never notice: each request that goes into the void puts off its ping.)

Runs in: controller (trio); kazoo's thread hands over through `zookeeper_link`. Owner: the controller process.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from controller.metadata_store.errors import (
    ConnectionLossError,
    NodeExistsError,
    SessionExpiredError,
    StoreError,
    StoreRefusedError,
)
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Create,
    EventType,
    Exists,
    ExistsResult,
    Outcome,
    Request,
    SessionId,
    SessionState,
    WatchEvent,
)
from controller.metadata_store.zookeeper_settings import ZooKeeperSettings, settings_from
from controller.metadata_store.zookeeper_window import Batch, RequestWindow, Ticket

if TYPE_CHECKING:
    from controller.metadata_store.zookeeper_codec import RequestCodec
    from controller.metadata_store.zookeeper_link import ZooKeeperLink

__all__ = ["ZooKeeperSettings", "ZooKeeperStore", "open_session", "settings_from"]

CLOSE_SECONDS_MAX = 3.0
"""How long `close` waits for the server's word; without it the session ends by its timeout."""

OPEN_RETRY_SECONDS = 0.05

_log = logging.getLogger(__name__)


async def open_session(settings: ZooKeeperSettings, kept: SessionId | None = None) -> ZooKeeperStore:
    """Connect, make the chroot if it is missing, and resume `kept` if it lives, else begin a session.

    StoreRefusedError when no server answers within connection_timeout_ms, or refuses the login.
    """
    store = ZooKeeperStore(settings, kept)
    try:
        await store.open()
    except BaseException:
        store.abandon()
        raise
    return store


class ZooKeeperStore(MetadataStore):
    """Made by `open_session`."""

    def __init__(self, settings: ZooKeeperSettings, kept: SessionId | None) -> None:
        from controller.metadata_store.zookeeper_codec import RequestCodec
        from controller.metadata_store.zookeeper_link import ZooKeeperLink

        self._settings = settings
        self._kept = kept
        self._codec: RequestCodec = RequestCodec("", settings.acl)
        self._link: ZooKeeperLink = ZooKeeperLink(settings, kept, self)
        self._window = RequestWindow(settings.max_in_flight, self._send)
        self._state: SessionState | None = None
        self._state_known = trio.Event()
        self._login_fault: str | None = None
        self._is_closing = False
        self._session: SessionId | None = None
        self._session_timeout_ms = 0
        self._answered_seconds = 0.0
        # Unbounded: there are never more events than reads that armed a watch and changes of the state.
        self._send_event: trio.MemorySendChannel[WatchEvent]
        self._send_event, self._events = trio.open_memory_channel[WatchEvent](math.inf)

    # Opening.

    async def open(self) -> None:
        self._check_certificates()
        self._link.start()
        timeout_ms = self._settings.connection_timeout_ms
        with trio.move_on_after(timeout_ms / 1000) as limit:
            await self._become_usable()
        if limit.cancelled_caught:
            fault = self._link.last_fault
            raise StoreRefusedError("", (
                f"ZooKeeper does not answer within {timeout_ms} ms (zookeeper.connection.timeout.ms) at "
                f"{self._settings.hosts}" + (f"; the last attempt: {fault}" if fault else "")))
        _log.info("%s ZooKeeper session 0x%x at %s, timeout %d ms", "resumed" if self.resumed else "new",
                  self.session.id, self._settings.hosts, self._session_timeout_ms)

    def _check_certificates(self) -> None:
        """At once, with the file's name, rather than by never being connected."""
        from controller.metadata_store.zookeeper_socket import tls_context

        tls = self._settings.tls
        if tls is not None:
            try:
                tls_context(tls)
            except OSError as error:
                raise StoreRefusedError("", (
                    f"the PEM files for ZooKeeper cannot be used ({tls.key_path or 'no key store'}, "
                    f"{tls.trust_path or 'no trust store'}): {error}")) from error

    async def _become_usable(self) -> None:
        while True:
            await self._state_known.wait()
            if self._login_fault is not None:
                raise StoreRefusedError(
                    "", f"ZooKeeper at {self._settings.hosts} refuses the login: {self._login_fault}")
            try:
                await self._make_chroot()
            except ConnectionLossError as error:
                _log.info("while opening the ZooKeeper session: %s", error)
                await trio.sleep(OPEN_RETRY_SECONDS)
            else:
                return

    async def _make_chroot(self) -> None:
        """Every node down to the chroot, which may lie where this login may not create."""
        chroot = self._settings.chroot
        found = await self._one(Exists(chroot or "/"), ExistsResult)
        if found.stat is None:
            parts = chroot[1:].split("/")
            paths = ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            for outcome in await self.submit([Create(path) for path in paths]):
                if isinstance(outcome, StoreError) and not isinstance(outcome, NodeExistsError):
                    raise outcome
        self._codec = self._codec.below(chroot)

    # The interface.

    @property
    def session(self) -> SessionId:
        assert self._session is not None, "the session is not open"
        return self._session

    @property
    def resumed(self) -> bool:
        """Whether this is the session that was kept, with its ephemeral nodes."""
        return self._kept is not None and self.session.id == self._kept.id

    @property
    def session_timeout_ms(self) -> int | None:
        """As negotiated with the server last connected to."""
        return self._session_timeout_ms

    @property
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        return self._events

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        """See `MetadataStore.submit`. Once connected it ends by an answer to all, by the loss of the
        connection or session, or after two thirds of the session timeout without any answer."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_unless_connected()
        finished = trio.Event()
        batch = Batch(requests, [self._codec.prepare(request) for request in requests], finished.set)
        self._window.add(batch)
        try:
            await self._wait(finished)
        finally:
            self._window.remove(batch)
        if batch.failure is not None:
            raise batch.failure
        return [outcome for outcome in batch.outcomes if outcome is not None]

    def _raise_unless_connected(self) -> None:
        if self._state is SessionState.EXPIRED or self._is_closing:
            raise SessionExpiredError(reason="the ZooKeeper session is over")
        if self._state is not SessionState.CONNECTED:
            raise ConnectionLossError(reason="there is no connection to ZooKeeper")

    async def _wait(self, finished: trio.Event) -> None:
        started_seconds = trio.current_time()
        silence_seconds = self._session_timeout_ms / 1000 * 2 / 3
        while True:
            silent_since = max(started_seconds, self._answered_seconds)
            with trio.move_on_at(silent_since + silence_seconds):
                await finished.wait()
                return
            if max(started_seconds, self._answered_seconds) == silent_since:
                self._link.cut()
                raise ConnectionLossError(
                    reason=f"ZooKeeper has not answered for {silence_seconds * 1000:.0f} ms")

    async def close(self) -> None:
        """End the session at once if there is a connection, else it ends by its timeout."""
        if self._is_closing:
            return
        self._is_closing = True
        self._window.reset(SessionExpiredError(reason="the ZooKeeper session is being closed"))
        if self._state is SessionState.EXPIRED:
            return
        with trio.move_on_after(CLOSE_SECONDS_MAX, shield=True) as limit:
            await trio.to_thread.run_sync(self._link.stop, abandon_on_cancel=True)
        if limit.cancelled_caught:
            self._link.abandon()
        self._send_event.close()

    def abandon(self) -> None:
        """Let go without ending the session: a successor may resume it."""
        if not self._is_closing:
            self._is_closing = True
            self._window.reset(SessionExpiredError(reason="the ZooKeeper session was given up"))
            self._link.abandon()
            self._send_event.close()

    # What the link tells.

    def _send(self, prepared: Any, ticket: Ticket) -> None:
        self._link.send(prepared, lambda answer: self._answered(ticket, answer))

    def _answered(self, ticket: Ticket, answer: Any) -> None:
        outcome = self._codec.outcome(ticket.batch.requests[ticket.position], answer)
        if isinstance(outcome, (ConnectionLossError, SessionExpiredError)):
            ticket.batch.fail(outcome)
        else:
            self._answered_seconds = trio.current_time()
        self._window.answered(ticket, outcome)

    def link_connected(self, session: SessionId, session_timeout_ms: int) -> None:
        is_first = self._session is None
        self._session = session
        self._session_timeout_ms = session_timeout_ms
        self._login_fault = None
        self._state = SessionState.CONNECTED
        self._state_known.set()
        if not is_first:
            _log.info("connected to ZooKeeper again, session 0x%x", session.id)
            self._tell(WatchEvent(EventType.SESSION, "", SessionState.CONNECTED))

    def link_suspended(self) -> None:
        if self._is_closing:
            return
        self._window.reset(ConnectionLossError(reason="the connection to ZooKeeper was lost"))
        if self._state is SessionState.CONNECTED:
            self._state = SessionState.SUSPENDED
            _log.warning("the connection to ZooKeeper is lost, session 0x%x", self.session.id)
            self._tell(WatchEvent(EventType.SESSION, "", SessionState.SUSPENDED))

    def link_lost(self) -> None:
        if self._is_closing or self._state is SessionState.EXPIRED:
            return
        self._state = SessionState.EXPIRED
        self._window.reset(SessionExpiredError(reason="the ZooKeeper session has expired"))
        _log.warning("the ZooKeeper session 0x%x is over", 0 if self._session is None else self._session.id)
        self._tell(WatchEvent(EventType.SESSION, "", SessionState.EXPIRED))
        self._send_event.close()
        self._link.abandon()

    def link_refused(self, reason: str) -> None:
        if reason != self._login_fault:
            _log.error("ZooKeeper refuses the login: %s", reason)
        self._login_fault = reason
        self._state_known.set()

    def link_fired(self, kind: EventType, path: str) -> None:
        if self._state is SessionState.CONNECTED:
            self._tell(WatchEvent(kind, self._codec.relative(path)))

    def _tell(self, event: WatchEvent) -> None:
        if not self._is_closing:
            self._send_event.send_nowait(event)

"""A node's session with the simulated servers: `MetadataStore` by the session contract.

What a real client does in threads of its own is done by tasks of the node here: greeting one of the servers,
pings every third of the time-out, giving up a silent connection after two thirds, looking for another server.
A connection that ends makes SUSPENDED, the same session elsewhere CONNECTED, a server that does not know the
session any more EXPIRED. Everything stops while the node is stopped.

Runs in: the test process, in tasks of the node.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from enum import Enum

import trio

from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError, StoreRefusedError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    EventType,
    Outcome,
    Request,
    SessionId,
    SessionState,
    WatchEvent,
)
from tests.controller.simulation.ensemble import Ensemble
from tests.controller.simulation.messages import (
    Answer,
    Ended,
    Farewell,
    Fired,
    Hello,
    Ping,
    Pong,
    Submit,
    Welcome,
)
from tests.controller.simulation.network import CLOSE, Link, LinkMode, Wire

ATTEMPT_SECONDS_MAX = 1.0
BACKOFF_SECONDS = (0.05, 0.3)


class _Phase(Enum):
    SEARCHING = 1
    CONNECTED = 2
    OVER = 3


class _Pending:
    """An answer that is waited for. outcomes None: none came."""

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.done = trio.Event()
        self.answer: Answer | None = None


class SimulatedStore(MetadataStore):
    """Use `open_session`. on_submit: told of each batch before it is handed over.

    answered_at: when the last answered request was sent, on the world's clock.
    """

    def __init__(self, ensemble: Ensemble, link: Link, draw: random.Random, timeout_ms: int) -> None:
        self.resumed = False
        self.answered_at = -math.inf
        self.on_submit: Callable[[SimulatedStore, Sequence[Request]], None] = lambda store, requests: None
        self._ensemble = ensemble
        self._link = link
        self._draw = draw
        self._timeout_ms = timeout_ms
        self._session = SessionId(0, b"")
        self._phase = _Phase.SEARCHING
        self._wire: Wire | None = None
        self._last_zxid = 0
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._heard_at = 0.0
        self.greeted = trio.Event()
        self._send_event: trio.MemorySendChannel[WatchEvent]
        self._send_event, self._events = trio.open_memory_channel[WatchEvent](math.inf)

    # MetadataStore

    @property
    def session(self) -> SessionId:
        return self._session

    @property
    def session_timeout_ms(self) -> int | None:
        return self._timeout_ms

    @property
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        return self._events

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        self.on_submit(self, requests)
        if self._phase is not _Phase.CONNECTED:
            await trio.lowlevel.checkpoint()
            self._raise_for_phase()
        number, pending = self._begin()
        assert self._wire is not None
        self._wire.send(Submit(number, tuple(requests)), to_server=True)
        answer = await self._wait(number, pending)
        return answer.outcomes

    async def close(self) -> None:
        """A session that cannot be told of it ends by its time-out."""
        if self._phase is _Phase.CONNECTED:
            number, pending = self._begin()
            assert self._wire is not None
            self._wire.send(Farewell(number), to_server=True)
            try:
                await self._wait(number, pending)
            except (ConnectionLossError, SessionExpiredError):
                await trio.lowlevel.checkpoint()
        self._end()

    @property
    def is_connected(self) -> bool:
        return self._phase is _Phase.CONNECTED

    def die(self) -> None:
        """The process is killed: the kernel closes its connection, the session stays."""
        self._end()

    def _begin(self) -> tuple[int, _Pending]:
        self._number += 1
        pending = self._pending[self._number] = _Pending(trio.current_time())
        return self._number, pending

    async def _wait(self, number: int, pending: _Pending) -> Answer:
        with trio.move_on_after(self._timeout_ms / 1000):
            await pending.done.wait()
        self._pending.pop(number, None)
        if pending.answer is None:
            self._raise_for_phase()
        assert pending.answer is not None
        return pending.answer

    def _raise_for_phase(self) -> None:
        if self._phase is _Phase.OVER:
            raise SessionExpiredError(reason="the session has ended")
        raise ConnectionLossError(reason="no connection, or no answer")

    def _end(self) -> None:
        if self._phase is not _Phase.OVER:
            self._phase = _Phase.OVER
            self._fail_pending()
            if self._wire is not None:
                self._wire.close(by_server=False)

    # The connection

    async def run(self, kept: SessionId | None) -> None:
        """Until the session is over."""
        if kept is not None:
            self._session = kept
        while self._phase is not _Phase.OVER:
            inbox = await self._greet()
            if inbox is None:
                await trio.sleep(self._draw.uniform(*BACKOFF_SECONDS))
                continue
            await self._serve(inbox)
        self._send_event.close()

    async def _greet(self) -> trio.MemoryReceiveChannel[object] | None:
        """One attempt at one server."""
        inbox = None
        with trio.move_on_after(ATTEMPT_SECONDS_MAX):
            inbox = await self._dial()
        if inbox is None:
            return None
        wire = self._wire
        assert wire is not None
        wire.send(Hello(self._session.id, self._session.password, self._timeout_ms, self._last_zxid),
                  to_server=True)
        message: object = CLOSE
        with trio.move_on_after(ATTEMPT_SECONDS_MAX):
            message = await inbox.receive()
        if isinstance(message, Welcome):
            self._welcomed(message)
            return inbox
        self._wire = None
        wire.close(by_server=False)
        if isinstance(message, Ended):
            self._session_ended()
        return None

    async def _dial(self) -> trio.MemoryReceiveChannel[object] | None:
        await trio.sleep(self._link.delay_seconds())
        if self._link.mode is LinkMode.BLACK_HOLE:
            await trio.sleep_forever()
        server = self._draw.choice(self._ensemble.servers)
        if self._link.mode is LinkMode.CUT or not server.is_up:
            return None
        send, inbox = trio.open_memory_channel[object](math.inf)
        self._wire = server.accept(self._link)
        self._wire.to_client = send.send_nowait
        return inbox

    def _welcomed(self, welcome: Welcome) -> None:
        self.resumed = welcome.session_id == self._session.id
        self._session = SessionId(welcome.session_id, welcome.password)
        self._timeout_ms = welcome.timeout_ms
        self._phase = _Phase.CONNECTED
        self._heard_at = trio.current_time()
        if self.greeted.is_set():
            self._tell(SessionState.CONNECTED)
        self.greeted.set()

    def _session_ended(self) -> None:
        if not self.greeted.is_set():
            self._session = SessionId(0, b"")  # the kept one: a new one instead
            return
        self._phase = _Phase.OVER
        self._fail_pending()
        self._tell(SessionState.EXPIRED)

    async def _serve(self, inbox: trio.MemoryReceiveChannel[object]) -> None:
        timeout_seconds = self._timeout_ms / 1000
        pinged_at = trio.current_time()
        while self._phase is _Phase.CONNECTED:
            message: object = None
            with trio.move_on_at(min(pinged_at + timeout_seconds / 3, self._heard_at + timeout_seconds * 2 / 3)):
                message = await inbox.receive()
            now = trio.current_time()
            if message is None and now >= self._heard_at + timeout_seconds * 2 / 3:
                message = CLOSE
            if message is CLOSE:
                self._lost()
                return
            if message is not None:
                self._heard_at = now
                self._take(message)
            if self._wire is not None and now >= pinged_at + timeout_seconds / 3:
                pinged_at = now
                self._wire.send(Ping(), to_server=True)

    def _take(self, message: object) -> None:
        match message:
            case Answer(number, _, last_zxid):
                self._last_zxid = max(self._last_zxid, last_zxid)
                pending = self._pending.get(number)
                if pending is not None:
                    pending.answer = message
                    self.answered_at = max(self.answered_at, pending.sent_at)
                    pending.done.set()
            case Fired(event, last_zxid):
                self._last_zxid = max(self._last_zxid, last_zxid)
                self._send_event.send_nowait(event)
            case Pong():
                return
            case _:
                raise AssertionError(message)

    def _lost(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close(by_server=False)
        if self._phase is _Phase.CONNECTED:
            self._phase = _Phase.SEARCHING
            self._tell(SessionState.SUSPENDED)
            self._fail_pending()

    def _fail_pending(self) -> None:
        for pending in self._pending.values():
            pending.done.set()

    def _tell(self, state: SessionState) -> None:
        self._send_event.send_nowait(WatchEvent(EventType.SESSION, "", state))


async def open_session(store: SimulatedStore, nursery: trio.Nursery, kept: SessionId | None,
                       timeout_seconds: float) -> None:
    """Give the store its session; StoreRefusedError when no server answers in time."""
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await store.run(kept)

    nursery.start_soon(run)
    with trio.move_on_after(timeout_seconds):
        await store.greeted.wait()
    if not store.greeted.is_set():
        scope.cancel()
        raise StoreRefusedError(reason="no server of the simulated ensemble answers")

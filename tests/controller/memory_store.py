"""A metadata store in memory over the same data tree as the embedded one, for tests of procedures.

`MemoryServer` holds the tree; its stores are sessions. Nothing suspends: procedures over it run to their end
with `run`. A server can be told to crash after a number of requests, each of which is a transaction of its
own, as on ZooKeeper.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import trio

from controller.metadata_store.data_tree import DataTree, Draft, WatchArmed, WatchTable
from controller.metadata_store.errors import SessionExpiredError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    EventType,
    Exists,
    GetChildren,
    GetData,
    Outcome,
    Request,
    SessionId,
    SessionState,
    WatchEvent,
)

T = TypeVar("T")
NOW_MS = 1_700_000_000_000


class Crash(BaseException):
    """The process dies here."""


def run(procedure: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        procedure.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the procedure waits for something")


class MemoryServer:
    """on_request: sees every request and its outcome. crash_after: writes that still take effect."""

    def __init__(self, tree: DataTree | None = None) -> None:
        self.tree = tree or DataTree()
        self.now_ms = NOW_MS
        self.crash_after: int | None = None
        self.on_request: Callable[[Request, Outcome], None] = lambda request, outcome: None
        self._watches = WatchTable()
        self._stores: dict[int, MemoryStore] = {}
        self._next_session_id = 1

    def session(self) -> MemoryStore:
        store = MemoryStore(self, SessionId(self._next_session_id, b"p" * 16))
        self._stores[store.session.id] = store
        self._next_session_id += 1
        return store

    def expire(self, store: MemoryStore) -> None:
        draft = Draft(self.tree, store.session.id, self.now_ms)
        draft.end_session(store.session.id)
        del self._stores[store.session.id]
        self._watches.drop_session(store.session.id)
        store.tell(WatchEvent(EventType.SESSION, "", SessionState.EXPIRED))
        self._commit(draft, store.session.id)

    def drop_watches(self, store: MemoryStore) -> None:
        self._watches.drop_session(store.session.id)

    def submit(self, requests: Sequence[Request], session_id: int) -> list[Outcome]:
        if session_id not in self._stores:
            raise SessionExpiredError(reason="the session has ended")
        outcomes = []
        for request in requests:
            if not isinstance(request, (Exists, GetData, GetChildren)):
                self._count_write()
            draft = Draft(self.tree, session_id, self.now_ms)
            outcome = draft.execute(request)
            self._commit(draft, session_id)
            self.on_request(request, outcome)
            outcomes.append(outcome)
        return outcomes

    def _count_write(self) -> None:
        if self.crash_after is not None:
            if self.crash_after == 0:
                raise Crash
            self.crash_after -= 1

    def _commit(self, draft: Draft, session_id: int) -> None:
        for change in draft.changes():
            self.tree.replay(change)
        for effect in draft.effects:
            if isinstance(effect, WatchArmed):
                self._watches.arm(effect, session_id)
                continue
            for told in self._watches.fire(effect):
                self._stores[told].tell(WatchEvent(effect.type, effect.path))


class MemoryStore(MetadataStore):
    def __init__(self, server: MemoryServer, session: SessionId) -> None:
        self._server = server
        self._session = session
        self._send_event, self._events = trio.open_memory_channel[WatchEvent](math.inf)

    @property
    def session(self) -> SessionId:
        return self._session

    @property
    def session_timeout_ms(self) -> int | None:
        return None

    @property
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        return self._events

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        return self._server.submit(requests, self._session.id)

    async def close(self) -> None:
        self._server.expire(self)

    def tell(self, event: WatchEvent) -> None:
        self._send_event.send_nowait(event)

    def next_event(self) -> WatchEvent | None:
        try:
            return self._events.receive_nowait()
        except trio.WouldBlock:
            return None

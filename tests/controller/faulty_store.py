"""Sessions on a tree in memory that lose their connection, their answers and their life, as a test says.

As a ZooKeeper client: a lost connection takes every watch with it; a request may take effect although its answer is
lost; an expired session's nodes go, and it answers nothing more.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError
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
from tests.controller.memory_store import MemoryServer, MemoryStore

SESSION_TIMEOUT_MS = 9000


class FaultyStore(MemoryStore):
    """on_submit: sees each batch before it is executed. answer_limit: so many more batches are answered, then one
    takes effect whose answer is lost, with the connection. holds: requests wait, as in a black hole."""

    def __init__(self, server: MemoryServer, session: SessionId) -> None:
        super().__init__(server, session)
        self.is_connected = True
        self.is_expired = False
        self.answer_limit: int | None = None
        self.holds = trio.Event()
        self.holds.set()
        self.on_submit: Callable[[Sequence[Request]], None] = lambda requests: None
        self.batches = 0

    @property
    def session_timeout_ms(self) -> int | None:
        return SESSION_TIMEOUT_MS

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        self._check()
        self.on_submit(requests)
        self.batches += 1
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(SESSION_TIMEOUT_MS / 1000):
            await self.holds.wait()
        self._check()
        if not self.holds.is_set():
            raise ConnectionLossError(reason="no answer in time")
        outcomes = await super().submit(requests)
        if self.answer_limit is not None:
            if self.answer_limit == 0:
                self.disconnect()
                raise ConnectionLossError(reason="the answer is lost")
            self.answer_limit -= 1
        return outcomes

    def _check(self) -> None:
        if self.is_expired:
            raise SessionExpiredError(reason="the session has ended")
        if not self.is_connected:
            raise ConnectionLossError(reason="not connected")

    def disconnect(self) -> None:
        if self.is_connected:
            self.is_connected = False
            self.answer_limit = None
            self._server.drop_watches(self)
            self.tell(WatchEvent(EventType.SESSION, "", SessionState.SUSPENDED))

    def reconnect(self) -> None:
        self.is_connected = True
        self.tell(WatchEvent(EventType.SESSION, "", SessionState.CONNECTED))

    def hold(self) -> None:
        self.holds = trio.Event()

    def expire(self) -> None:
        """The server ends the session; the client hears of it."""
        self.is_expired = True
        self._server.expire(self)


class FaultyServer(MemoryServer):
    def session(self) -> FaultyStore:
        store = FaultyStore(self, SessionId(self._next_session_id, b"p" * 16))
        self._stores[store.session.id] = store
        self._next_session_id += 1
        return store


def is_write(request: Request) -> bool:
    return not isinstance(request, Exists | GetData | GetChildren)

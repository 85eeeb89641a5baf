"""A simulated ZooKeeper: one server or an ensemble, over the data tree of the embedded store.

Sessions end by the servers' clock, whose rate differs from the nodes' clocks, in buckets of a tick, never
early. Writes are executed by the leading server, in one order; each server applies them in that order a
little later, and answers reads, fires watches and confirms its clients' writes from what it has applied. A
server that is behind what a client has seen refuses it. Requests of a session are executed in order, one
by one: a connection that breaks in the middle of a batch leaves the first part done. Sessions outlive
connections and servers; watches belong to the connection.

Compared with a real ZooKeeper by `test_like_the_real_one.py`.

Runs in: the test process, in callbacks of the world's timeline.
"""
from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.metadata_store.data_tree import Change, DataTree, Draft, Trigger, WatchArmed, WatchTable
from controller.metadata_store.errors import SessionExpiredError
from controller.metadata_store.operations import (
    Exists,
    GetChildren,
    GetChildrenResult,
    GetData,
    Outcome,
    Read,
    Request,
    WatchEvent,
)
from tests.controller.simulation.history import EXPIRED
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
from tests.controller.simulation.network import CLOSE, Link, Wire
from tests.controller.simulation.scheduler import Timeline

WALL_CLOCK_START_MS = 1_700_000_000_000
PAUSE_IN_BATCH_SHARE = 0.03
LAG_SECONDS = (0.0, 0.004)
BEHIND_SECONDS = (0.05, 0.6)
"""Of a follower that is slow for a while."""


@dataclass
class Session:
    """ends_at: in seconds of the world. connection: where its requests count."""

    id: int
    password: bytes
    timeout_ms: int
    ends_at: float = math.inf
    connection: Connection | None = None


class Committing(NamedTuple):
    zxid: int
    changes: list[Change]
    triggers: list[Trigger]


@dataclass(eq=False)
class Connection:
    """queue: requests not executed yet. seen_zxid: newest own write; answers wait until it is applied."""

    wire: Wire
    server: Server
    session: Session | None = None
    seen_zxid: int = 0
    queue: deque[Work] = field(default_factory=deque)
    is_waiting: bool = False
    is_open: bool = True


@dataclass
class Work:
    number: int
    requests: Sequence[Request]
    outcomes: list[Outcome] = field(default_factory=list)
    ends_session: bool = False

    @property
    def next_is_write(self) -> bool:
        done = len(self.outcomes)
        return done < len(self.requests) and not isinstance(self.requests[done], (Exists, GetData, GetChildren))


class Server:
    """One server's copy of the tree and its clients."""

    def __init__(self, ensemble: Ensemble, draw: random.Random) -> None:
        self.is_up = True
        self.is_behind = False
        self.tree = DataTree()
        self.zxid = 0
        self._ensemble = ensemble
        self._draw = draw
        self._watches = WatchTable()
        self._clients: dict[Connection, None] = {}
        self._to_apply: deque[Committing] = deque()
        self._last_application = 0.0

    # Connections

    def accept(self, link: Link) -> Wire:
        wire = link.open()
        connection = Connection(wire, self)
        self._clients[connection] = None
        wire.to_server = lambda message: self._receive(connection, message)
        return wire

    def _receive(self, connection: Connection, message: object) -> None:
        if not connection.is_open:
            return
        if message is CLOSE:
            self._closed(connection)
            return
        if isinstance(message, Hello):
            self._greet(connection, message)
            return
        session = connection.session
        if session is None or not self._ensemble.owns(session, connection):
            self.drop(connection)
            return
        self._ensemble.touch(session)
        if isinstance(message, Ping):
            connection.wire.send(Pong(), to_server=False)
        elif isinstance(message, Submit):
            connection.queue.append(Work(message.number, message.requests))
            self.go_on(connection)
        elif isinstance(message, Farewell):
            connection.queue.append(Work(message.number, (), ends_session=True))
            self.go_on(connection)

    def _greet(self, connection: Connection, hello: Hello) -> None:
        if hello.last_zxid > self.zxid:
            self.drop(connection)
            return
        session = self._ensemble.session_for(hello)
        if session is None:
            connection.wire.send(Ended(), to_server=False)
            self.drop(connection)
            return
        if session.connection is not None:
            session.connection.server.drop(session.connection)
        session.connection = connection
        connection.session = session
        self._ensemble.touch(session)
        connection.wire.send(Welcome(session.id, session.password, session.timeout_ms), to_server=False)

    def drop(self, connection: Connection) -> None:
        """Close it from this side."""
        if connection.is_open:
            connection.wire.close(by_server=True)
            self._closed(connection)

    def _closed(self, connection: Connection) -> None:
        connection.is_open = False
        connection.queue.clear()
        self._clients.pop(connection, None)
        session = connection.session
        if session is not None:
            self._watches.drop_session(session.id)
            if session.connection is connection:
                session.connection = None

    def stop(self) -> None:
        self.is_up = False
        for connection in list(self._clients):
            self._closed(connection)
            connection.wire.reset()

    def start(self) -> None:
        """With everything applied, as a server that joins."""
        while self._to_apply:
            self._apply(self._to_apply.popleft())
        self.is_up = True

    # Requests

    def go_on(self, connection: Connection) -> None:
        """Execute what can be executed now."""
        while connection.queue and not connection.is_waiting and connection.is_open:
            session, work = connection.session, connection.queue[0]
            assert session is not None
            if work.ends_session:
                self._ensemble.end_session(session, "closed")
                connection.seen_zxid = self._ensemble.zxid
            elif not self._ensemble.owns(session, connection):
                self.drop(connection)
                return
            if self.zxid < connection.seen_zxid and not work.next_is_write:
                return
            if len(work.outcomes) == len(work.requests):
                connection.queue.popleft()
                self._finish(connection, work)
                continue
            work.outcomes.append(self._execute(connection, session, work.requests[len(work.outcomes)]))
            if len(work.outcomes) < len(work.requests) and self._draw.random() < PAUSE_IN_BATCH_SHARE:
                self._pause(connection)

    def _pause(self, connection: Connection) -> None:
        def awake() -> None:
            connection.is_waiting = False
            self.go_on(connection)

        connection.is_waiting = True
        self._ensemble.timeline.after(self._draw.uniform(0.001, 0.05), awake)

    def _finish(self, connection: Connection, work: Work) -> None:
        connection.wire.send(Answer(work.number, work.outcomes, self.zxid), to_server=False)
        if work.ends_session:
            self.drop(connection)

    def _execute(self, connection: Connection, session: Session, request: Request) -> Outcome:
        if isinstance(request, (Exists, GetData, GetChildren)):
            return self._read(session, request)
        outcome = self._ensemble.write(session.id, request)
        connection.seen_zxid = self._ensemble.zxid
        return outcome

    def _read(self, session: Session, request: Read) -> Outcome:
        draft = Draft(self.tree, session.id, 0)
        outcome = draft.execute(request)
        for effect in draft.effects:
            assert isinstance(effect, WatchArmed)
            self._watches.arm(effect, session.id)
        if isinstance(outcome, GetChildrenResult):
            children = sorted(outcome.children)
            self._draw.shuffle(children)
            return GetChildrenResult(tuple(children), outcome.stat)
        return outcome

    # Changes

    def learn(self, committing: Committing) -> None:
        """Apply it soon, after what came before; at once if this is the only server."""
        if len(self._ensemble.servers) == 1 and self.is_up:
            self._apply(committing)
            return
        self._to_apply.append(committing)
        lag = self._draw.uniform(*(BEHIND_SECONDS if self.is_behind else LAG_SECONDS))
        self._last_application = max(self._ensemble.timeline.now() + lag, self._last_application)
        self._ensemble.timeline.at(self._last_application, self._apply_next)

    def _apply_next(self) -> None:
        if self._to_apply and self.is_up:
            self._apply(self._to_apply.popleft())
            for connection in list(self._clients):
                self.go_on(connection)

    def _apply(self, committing: Committing) -> None:
        for change in committing.changes:
            self.tree.replay(change)
        self.zxid = committing.zxid
        by_session = {connection.session.id: connection for connection in self._clients
                      if connection.session is not None}
        for trigger in committing.triggers:
            for session_id in self._watches.fire(trigger):
                connection = by_session.get(session_id)
                if connection is not None:
                    connection.wire.send(Fired(WatchEvent(trigger.type, trigger.path), self.zxid),
                                         to_server=False)


class Ensemble:
    """on_commit(session id, request, outcome): after each write. on_end(session, why): before its nodes go.

    clock_rate: seconds on the servers' clock per second of the world.
    """

    def __init__(self, timeline: Timeline, draw: random.Random, *, server_count: int = 1,
                 clock_rate: float = 1.0, tick_seconds: float = 0.1, session_timeout_min_ms: int = 0) -> None:
        self.timeline = timeline
        self.clock_rate = clock_rate
        self.tick_seconds = tick_seconds
        self.zxid = 0
        self.tree = DataTree()
        self.is_serving = True
        self.on_commit: Callable[[int, Request, Outcome], None] = lambda session_id, request, outcome: None
        self.on_end: Callable[[Session, str], None] = lambda session, why: None
        self._draw = draw
        self._session_timeout_min_ms = session_timeout_min_ms
        self._sessions: dict[int, Session] = {}
        self.servers = [Server(self, draw) for _ in range(server_count)]

    # Sessions

    def session(self, session_id: int) -> Session | None:
        return self._sessions.get(session_id)

    @property
    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def owns(self, session: Session, connection: Connection) -> bool:
        return self._sessions.get(session.id) is session and session.connection is connection

    def session_for(self, hello: Hello) -> Session | None:
        """None: it has ended, or the password is wrong."""
        if hello.session_id:
            session = self._sessions.get(hello.session_id)
            return session if session is not None and session.password == hello.password else None
        session = Session(self._draw.getrandbits(56) | 1 << 56, self._draw.randbytes(16),
                          max(hello.timeout_ms, self._session_timeout_min_ms))
        self._sessions[session.id] = session
        self._watch_end_of(session)
        return session

    def touch(self, session: Session) -> None:
        """Heard of: its time begins anew, rounded up to the next tick."""
        on_server = self.timeline.now() * self.clock_rate + session.timeout_ms / 1000
        ticks = math.floor(on_server / self.tick_seconds) + 1
        session.ends_at = ticks * self.tick_seconds / self.clock_rate

    def latest_end_after(self, time: float, timeout_ms: int) -> float:
        """When at the latest a session ends that was last heard of at that time."""
        return time + (timeout_ms / 1000 + self.tick_seconds) / self.clock_rate

    def earliest_end_after(self, time: float, timeout_ms: int) -> float:
        return time + timeout_ms / 1000 / self.clock_rate

    def _watch_end_of(self, session: Session) -> None:
        self.touch(session)
        self._look_again(session)

    def _look_again(self, session: Session) -> None:
        def look() -> None:
            if session.id not in self._sessions:
                return
            if self.is_serving and session.ends_at <= self.timeline.now() + 1e-9:
                self.end_session(session, EXPIRED)
            else:
                self._look_again(session)

        self.timeline.at(max(session.ends_at, self.timeline.now() + self.tick_seconds), look)

    def end_session(self, session: Session, why: str) -> None:
        if session.id not in self._sessions:
            return
        self.on_end(session, why)
        del self._sessions[session.id]
        draft = Draft(self.tree, session.id, self._wall_clock_ms())
        draft.end_session(session.id)
        self._commit(draft)
        connection = session.connection
        if connection is not None and why != "closed":
            connection.server.drop(connection)

    # Writes

    def write(self, session_id: int, request: Request) -> Outcome:
        """By a client of some server, or, with session 0, by an operator."""
        if session_id and session_id not in self._sessions:
            return SessionExpiredError(reason="the session has ended")
        draft = Draft(self.tree, session_id, self._wall_clock_ms())
        outcome = draft.execute(request)
        self._commit(draft)
        self.on_commit(session_id, request, outcome)
        return outcome

    def _commit(self, draft: Draft) -> None:
        changes = draft.changes()
        if not changes:
            return
        for change in changes:
            self.tree.replay(change)
        self.zxid = draft.last_zxid
        triggers = [effect for effect in draft.effects if isinstance(effect, Trigger)]
        committing = Committing(self.zxid, changes, triggers)
        for server in self.servers:
            server.learn(committing)

    def _wall_clock_ms(self) -> int:
        return WALL_CLOCK_START_MS + round(self.timeline.now() * 1000 * self.clock_rate)

    # Accidents

    def stop(self) -> None:
        """All servers, or the leading one so that none serves."""
        self.is_serving = False
        for server in self.servers:
            server.stop()

    def start(self) -> None:
        """Sessions begin their time anew, as under a new leading server."""
        self.is_serving = True
        for session in self._sessions.values():
            self.touch(session)
        for server in self.servers:
            server.start()

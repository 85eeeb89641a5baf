"""The embedded metadata store: ZooKeeper's tree in memory, every change in one SQLite file first.

For a single node without ZooKeeper. `EmbeddedDatabase` is the file: it takes the lock, reads the tree and
commits each batch in one SQLite transaction (write-ahead log, synchronous=FULL: an answered write survives
power loss). `EmbeddedStore` is one session on it. Opened after the fork: SQLite must not cross one.

A batch is drafted on the tree, committed by a worker thread (SQLite and fsync release the interpreter
lock), and only then replayed into the tree and its watches fired: a full disk leaves nothing behind, and no
reader sees what could still be lost.

A session lives as long as the node's supervisor: a controller process that resumes it by id and password
finds its ephemeral nodes; opening the database ends every other session that was left in the file.

Runs in: controller (trio). Owner of file and tree: the one controller process that holds the lock.
"""
from __future__ import annotations

import hmac
import math
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence

import trio

from controller.metadata_store.data_tree import Change, DataTree, Draft, Node, Trigger, WatchArmed, WatchTable
from controller.metadata_store.disk_reserve import DiskReserve
from controller.metadata_store.errors import (
    BadArgumentsError,
    SessionExpiredError,
    StoreRefusedError,
    StoreUnavailableError,
)
from controller.metadata_store.file_lock import FileLock, LockHeldError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Create,
    EventType,
    Multi,
    Outcome,
    Request,
    SessionId,
    SessionState,
    SetData,
    WatchEvent,
)

SCHEMA_VERSION = 1
WAL_PAGES = 256
REQUEST_BYTES_MAX = (1 << 20) - 1
"""As a ZooKeeper server's default (jute.maxbuffer): a tree that is kept here can be moved there."""

_SCHEMA = """
CREATE TABLE node (
    path TEXT PRIMARY KEY, data BLOB, czxid INTEGER, mzxid INTEGER, pzxid INTEGER, ctime_ms INTEGER,
    mtime_ms INTEGER, version INTEGER, creations INTEGER, ephemeral_owner INTEGER
) WITHOUT ROWID;
CREATE TABLE session (id INTEGER PRIMARY KEY, password BLOB);
CREATE TABLE owner (broker_id INTEGER PRIMARY KEY);
"""
_PUT = "INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM node WHERE path = ?"

Statements = Sequence[tuple[str, Sequence[object]]]


class EmbeddedDatabase:
    """The file, its lock and the committed tree. Use `open`; `close` when done."""

    def __init__(self, connection: sqlite3.Connection, lock: FileLock, path: str,
                 wall_clock_ms: Callable[[], int]) -> None:
        self.path = path
        self.tree = DataTree()
        self._connection = connection
        self._lock = lock
        self._reserve = DiskReserve(path + ".reserve", time.monotonic())
        self._wall_clock_ms = wall_clock_ms
        self._turn = trio.Lock()
        self._watches = WatchTable()
        self._sessions: dict[int, EmbeddedStore] = {}

    @classmethod
    async def open(cls, path: str, *, description: str,
                   wall_clock_ms: Callable[[], int] | None = None) -> EmbeddedDatabase:
        """Lock and read the file, making it if missing.

        description: who we are, for the process that finds the lock taken. StoreRefusedError with what to do
        when the file is in use, damaged or of a newer format; OSError when it cannot be made.
        """
        lock = _take_lock(path, description)
        try:
            connection = await trio.to_thread.run_sync(_connect, path)
            database = cls(connection, lock, path, wall_clock_ms or _now_ms)
            await trio.to_thread.run_sync(database._load)
        except BaseException:
            lock.release()
            raise
        return database

    def _load(self) -> None:
        for row in self._connection.execute("SELECT * FROM node ORDER BY path"):
            self.tree.replay(Change(row[0], Node(*row[1:])))

    async def claim(self, broker_id: int) -> None:
        """Bind the file to this broker for good; StoreRefusedError when it belongs to another one."""
        async with self._turn:
            owner = self._connection.execute("SELECT broker_id FROM owner").fetchone()
            if owner is None:
                await self._commit([("INSERT INTO owner VALUES (?)", (broker_id,))])
            elif owner[0] != broker_id:
                raise StoreRefusedError(self.path, (
                    f"this embedded metadata belongs to broker {owner[0]}, but broker.id says {broker_id}. "
                    "The embedded store serves one broker only: set broker.id back, or give this broker its "
                    "own ottla.metadata.path, or set zookeeper.connect on both for a cluster"))

    async def owner(self) -> int | None:
        """Broker id that claimed the file, None before the first claim."""
        async with self._turn:
            row = self._connection.execute("SELECT broker_id FROM owner").fetchone()
            return None if row is None else int(row[0])

    async def open_session(self, resume: SessionId | None = None) -> EmbeddedStore:
        """Resume the session if the file knows it with that password, else begin a new one.

        Either way every session that no open store stands for is ended: its process is gone for good,
        because this one holds the lock.
        """
        async with self._turn:
            session = resume if resume is not None and self._knows(resume) else self._new_session_id()
            await self._end_sessions([
                session_id for (session_id,) in self._connection.execute("SELECT id FROM session").fetchall()
                if session_id != session.id and session_id not in self._sessions])
            await self._commit([("INSERT OR REPLACE INTO session VALUES (?, ?)",
                                 (session.id, session.password))])
            store = EmbeddedStore(self, session)
            self._sessions[session.id] = store
            return store

    def _knows(self, session: SessionId) -> bool:
        row = self._connection.execute("SELECT password FROM session WHERE id = ?", (session.id,)).fetchone()
        return row is not None and hmac.compare_digest(row[0], session.password)

    def _new_session_id(self) -> SessionId:
        return SessionId(secrets.randbits(62) | 1, secrets.token_bytes(16))

    async def end_session(self, session_id: int) -> None:
        """Remove the session's ephemeral nodes and tell its store, if one is open, that it has expired."""
        async with self._turn:
            await self._end_sessions([session_id])

    async def _end_sessions(self, session_ids: list[int]) -> None:
        for session_id in session_ids:
            draft = Draft(self.tree, session_id, self._wall_clock_ms())
            draft.end_session(session_id)
            await self._commit([*_rows(draft), ("DELETE FROM session WHERE id = ?", (session_id,))])
            self._watches.drop_session(session_id)
            store = self._sessions.pop(session_id, None)
            if store is not None:
                store.expire()
            self._replay(draft, session_id)

    async def submit(self, requests: Sequence[Request], session_id: int) -> list[Outcome]:
        """Execute a batch for a session; see `MetadataStore.submit`."""
        async with self._turn:
            if session_id not in self._sessions:
                raise SessionExpiredError(reason="the session has ended")
            draft = Draft(self.tree, session_id, self._wall_clock_ms())
            outcomes: list[Outcome] = []
            for request in requests:
                too_big = _refuse_size(request)
                outcomes.append(draft.execute(request) if too_big is None else too_big)
            rows = _rows(draft)
            if rows:
                await self._commit(rows)
            self._replay(draft, session_id)
            return outcomes

    async def _commit(self, statements: Statements) -> None:
        await trio.to_thread.run_sync(self._commit_in_thread, statements)

    def _commit_in_thread(self, statements: Statements) -> None:
        """One transaction, on disk when this returns; StoreUnavailableError when the disk refuses it.

        On a full disk the reserve is given up step by step.
        """
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for sql, values in statements:
                    self._connection.execute(sql, values)
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                is_full = error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
                if not is_full or not self._reserve.release_step(time.monotonic()):
                    raise StoreUnavailableError(self.path, f"the metadata cannot be written: {error}") from error
            else:
                self._reserve.maybe_refill(time.monotonic())
                return

    def _replay(self, draft: Draft, session_id: int) -> None:
        for change in draft.changes():
            self.tree.replay(change)
        for effect in draft.effects:
            if isinstance(effect, WatchArmed):
                self._watches.arm(effect, session_id)
            else:
                self._fire(effect)

    def _fire(self, trigger: Trigger) -> None:
        for session_id in self._watches.fire(trigger):
            store = self._sessions.get(session_id)
            if store is not None:
                store.tell(WatchEvent(trigger.type, trigger.path))

    async def close(self) -> None:
        """Close the file without ending sessions: a successor may resume them."""
        async with self._turn:
            for store in self._sessions.values():
                store.disconnect()
            self._sessions.clear()
            await trio.to_thread.run_sync(self._connection.close)
            self._reserve.close()
            self._lock.release()


class EmbeddedStore(MetadataStore):
    """One session on an `EmbeddedDatabase`. It never times out: it ends with `close` or the supervisor."""

    def __init__(self, database: EmbeddedDatabase, session: SessionId) -> None:
        self._database = database
        self._session = session
        self._send_event: trio.MemorySendChannel[WatchEvent]
        # Unbounded: watches are one-shot, so there are never more events than reads that armed one.
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
        return await self._database.submit(requests, self._session.id)

    async def close(self) -> None:
        await self._database.end_session(self._session.id)

    def tell(self, event: WatchEvent) -> None:
        self._send_event.send_nowait(event)

    def expire(self) -> None:
        self.tell(WatchEvent(EventType.SESSION, "", SessionState.EXPIRED))
        self._send_event.close()

    def disconnect(self) -> None:
        self._send_event.close()


def _take_lock(path: str, description: str) -> FileLock:
    try:
        return FileLock(path + ".lock", description)
    except LockHeldError as error:
        raise StoreRefusedError(path, (
            f"this embedded metadata is in use by {error.owner or 'another process'}. Two brokers cannot "
            "share it: stop the other one, or give this broker its own ottla.metadata.path, or set "
            "zookeeper.connect on both for a cluster")) from error


def _connect(path: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Exclusive: no shared-memory file, so the database may lie on a network file system. The log is kept
        # short, and temporary data in memory, for the sake of full disks.
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL",
                       f"wal_autocheckpoint={WAL_PAGES}", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            connection.close()
            raise StoreRefusedError(path, f"the metadata has format {version}, written by a newer Ottla; "
                                          f"this one reads up to {SCHEMA_VERSION}")
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        raise StoreRefusedError(path, f"the metadata cannot be read: {error}. "
                                      "Restore the file from a copy, or move it away to have the metadata "
                                      "made anew from the log directories") from error
    return connection


def _rows(draft: Draft) -> list[tuple[str, Sequence[object]]]:
    return [(_DELETE, (path,)) if node is None else (_PUT, (path, *node)) for path, node in draft.changes()]


def _refuse_size(request: Request) -> BadArgumentsError | None:
    operations = request.operations if isinstance(request, Multi) else (request,)
    size = sum(len(operation.path) + len(operation.data or b"") if isinstance(operation, Create | SetData)
               else len(operation.path) for operation in operations)
    if size <= REQUEST_BYTES_MAX:
        return None
    return BadArgumentsError(operations[0].path,
                             f"request of {size} bytes, at most {REQUEST_BYTES_MAX} are allowed")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def description_of_this_process(broker_id: int) -> str:
    """The line for the lock file."""
    return f"broker {broker_id if broker_id >= 0 else '(id to be generated)'}, process {os.getpid()}"

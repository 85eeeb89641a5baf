"""kazoo's client held to one session, its one thread, and the way from there into trio.

kazoo's client is made for programs that want *a* session; ours wants *this* one. What it does by itself and
what is done about it here:

- It opens a new session after expiry: `create_connection` refuses once the session is lost.
- Asked to resume a dead session, it silently gets a new one: ids are compared when the session stands.
- Requests that slip in while it fails the others for a lost connection are kept, and sent by the next one: a
  lock around handing over and around the change of state; what slipped in is failed.
- It completes futures and calls watches on two threads, in no common order: here are no such threads, both go
  into one queue, in the order in which the server sent them.
- It tells each watcher that it was dropped: left out, `SUSPENDED` says so.
- A deleted node's data and child watch give two calls, with one event object: told once.
- It does not notice a black hole while requests go out: the store cuts the connection.
- `stop` blocks, up to the session timeout: called on a thread of its own.

Two of kazoo's private methods are used: `_call` (as its own transactions do, from another class) and
`_notify_pending`. Version 2.11.0 is pinned.

Runs in: controller. kazoo's thread changes `_is_usable`, `_session`, `_refusal` under `_lock`; trio reads them
under it.
"""
from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, KazooException
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import EventType as KazooEventType
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry

from controller.metadata_store.operations import EventType, SessionId
from controller.metadata_store.zookeeper_sasl import SaslFailedError, log_in
from controller.metadata_store.zookeeper_settings import ZooKeeperSettings
from controller.metadata_store.zookeeper_socket import StoreSocket, connect, wait_ready

_log = logging.getLogger(__name__)
_kazoo_log = logging.getLogger(__name__ + ".kazoo")
_kazoo_log.setLevel(logging.ERROR)  # it warns of every failed attempt; the store says it once

RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 0.5
LOGIN_RETRY_SECONDS = 1.0

_EVENT_TYPES = {
    KazooEventType.CREATED: EventType.NODE_CREATED,
    KazooEventType.DELETED: EventType.NODE_DELETED,
    KazooEventType.CHANGED: EventType.NODE_DATA_CHANGED,
    KazooEventType.CHILD: EventType.NODE_CHILDREN_CHANGED,
}


class LinkReceiver(Protocol):
    """What is called inside trio, in the order in which it happened."""

    def link_connected(self, session: SessionId, session_timeout_ms: int) -> None: ...

    def link_suspended(self) -> None: ...

    def link_lost(self) -> None: ...

    def link_fired(self, kind: EventType, path: str) -> None: ...

    def link_refused(self, reason: str) -> None:
        """The login failed; kazoo tries again."""


class Answer:
    """The future that kazoo completes. The first completion counts: kazoo may fail one request twice."""

    __slots__ = ("_link", "_deliver", "_is_done")

    def __init__(self, link: ZooKeeperLink, deliver: Callable[[Any], None]) -> None:
        self._link = link
        self._deliver = deliver
        self._is_done = False

    def set(self, value: Any = None) -> None:
        if not self._is_done:
            self._is_done = True
            self._link.post(self._deliver, value)

    def set_exception(self, error: Exception) -> None:
        self.set(error)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """No worker threads; sockets and watch events go through the link."""

    def __init__(self, link: ZooKeeperLink) -> None:
        super().__init__()
        self._link = link
        self._last_event: object = None

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def select(self, readers: Sequence[Any], writers: Sequence[Any], others: Sequence[Any],
               timeout: float | None = None) -> tuple[list[Any], list[Any], list[Any]]:
        return wait_ready(readers, writers, others, timeout)

    def create_connection(self, address: tuple[str, int], hostname: str, **_unused: Any) -> StoreSocket:
        return self._link.connect(address, hostname)

    def dispatch_callback(self, callback: Any) -> None:
        (event,) = callback.args
        if event.type == KazooEventType.NONE or event is self._last_event:
            return
        self._last_event = event
        self._link.post(self._link.fired, (_EVENT_TYPES[event.type], event.path))


class ZooKeeperLink:
    """`start`, then `send` while connected; `stop` or `abandon`, once, ends it."""

    def __init__(self, settings: ZooKeeperSettings, kept: SessionId | None, receiver: LinkReceiver) -> None:
        self._settings = settings
        self._receiver = receiver
        self._token = trio.lowlevel.current_trio_token()
        self._inbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._lock = threading.Lock()
        self._is_usable = False
        self._session: SessionId | None = None
        self._refusal: str | None = None
        self._socket: StoreSocket | None = None
        self.last_fault = ""
        """Why the last attempt to connect failed, for the operator."""
        self._stop_lock = threading.Lock()
        self._is_stopped = False
        retry = KazooRetry(max_tries=-1, delay=RECONNECT_SECONDS_MIN, max_delay=RECONNECT_SECONDS_MAX)
        self._client = KazooClient(
            hosts=settings.hosts, timeout=settings.session_timeout_ms / 1000, handler=_Handler(self),
            client_id=None if kept is None else (kept.id, kept.password),
            connection_retry=retry, logger=_kazoo_log)
        self._hosts_count = len(self._client.hosts)
        self._client.add_listener(self._state_changed)

    # Called in trio.

    def start(self) -> None:
        self._client.start_async()

    def send(self, request: Any, deliver: Callable[[Any], None]) -> None:
        """deliver(what the server answered, or an exception) is called later, always, inside trio."""
        answer = Answer(self, deliver)
        with self._lock:
            if self._is_usable:
                self._client._call(request, answer)
                return
        answer.set_exception(ConnectionLoss())

    def cut(self) -> None:
        """End the connection, not the session: kazoo connects again."""
        connection = self._socket
        if connection is not None:
            connection.cut()

    def abandon(self) -> None:
        """End the connection and make no other; the session lives on until it times out or is resumed."""
        with self._lock:
            self._is_usable = False
            self._refusal = "given up"
        self.cut()
        threading.Thread(target=self.stop, name="zookeeper stop", daemon=True).start()

    def stop(self) -> None:
        """End the session if there is a connection, and kazoo's thread. Blocks: not for trio's thread."""
        with self._stop_lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            try:
                self._client.stop()
                self._client.close()
            except KazooException as error:  # its thread still waits for a server to accept
                _log.warning("the connection to ZooKeeper does not end: %s", error)

    # Called on kazoo's thread.

    def connect(self, address: tuple[str, int], host_name: str) -> StoreSocket:
        if self._refusal is not None:
            raise ConnectionRefusedError(self._refusal)
        timeout_seconds = self._settings.session_timeout_ms / 1000 / self._hosts_count
        try:
            made = connect(address, host_name, timeout_seconds, self._settings.tls)
        except OSError as error:
            self.last_fault = f"{host_name}:{address[1]}: {error}"
            raise
        with self._lock:
            if self._refusal is None:
                self._socket = made
                return made
        made.close()
        raise ConnectionRefusedError(self._refusal)

    def _state_changed(self, state: str) -> None:
        """kazoo's thread waits here: nothing is sent or read meanwhile."""
        if state == KazooState.CONNECTED:
            self._connected()
        elif state == KazooState.SUSPENDED:
            with self._lock:
                self._is_usable = False
            # What was handed over between kazoo's failing of all requests and the line above.
            self._client._notify_pending(self._client.client_state)
            self.post(self._suspended, None)
        else:
            self._lost()

    def _connected(self) -> None:
        assert self._socket is not None
        session = SessionId(*self._client.client_id)
        timeout_ms = self._socket.session_timeout_ms
        if self._session is not None and session.id != self._session.id:
            _log.error("kazoo opened session 0x%x in the place of 0x%x", session.id, self._session.id)
            self._lost()
            self._socket.cut()
        elif self._log_in(self._socket, timeout_ms / 1000):
            with self._lock:
                self._session = session
                self._is_usable = self._refusal is None
            self.post(self._stands, (session, timeout_ms))

    def _log_in(self, connection: StoreSocket, timeout_seconds: float) -> bool:
        if self._settings.sasl is None:
            return True
        try:
            log_in(connection, self._settings.sasl, timeout_seconds / self._hosts_count)
        except (OSError, SaslFailedError) as error:
            connection.cut()
            self.post(self._receiver.link_refused, str(error))
            time.sleep(LOGIN_RETRY_SECONDS)  # kazoo takes the connection for good and would not wait
            return False
        return True

    def _lost(self) -> None:
        """The session is over for this client. From here on kazoo gets no connection: it would open another."""
        with self._lock:
            self._is_usable = False
            self._refusal = self._refusal or "the session is over"
        self._client._notify_pending(KeeperState.EXPIRED_SESSION)
        self.post(self._over, None)

    def post(self, deliver: Callable[[Any], None], value: Any) -> None:
        """Have deliver(value) called in trio, after all that was posted before."""
        self._inbox.append((deliver, value))
        try:
            self._token.run_sync_soon(self._drain, idempotent=True)
        except trio.RunFinishedError:
            self._inbox.clear()

    # Called in trio, from the inbox.

    def _drain(self) -> None:
        for _ in range(len(self._inbox)):
            deliver, value = self._inbox.popleft()
            deliver(value)

    def _stands(self, value: tuple[SessionId, int]) -> None:
        self._receiver.link_connected(*value)

    def _suspended(self, _unused: None) -> None:
        self._receiver.link_suspended()

    def _over(self, _unused: None) -> None:
        self._receiver.link_lost()

    def fired(self, value: tuple[EventType, str]) -> None:
        self._receiver.link_fired(*value)


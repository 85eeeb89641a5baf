"""The controller process: from the supervisor's context to an exit code.

Start: a session with the store is opened (after the fork: neither SQLite nor threads may cross one), cluster id
and broker id are made or found and compared with the log directories, and `identity` goes to the supervisor
before anything in a log directory is touched. Then control messages become events of the loop; those that come
earlier wait for it.

| message in | what follows |
|---|---|
| `register{resume, broker_epoch, ports}` | registration, answer `registered{broker_epoch}`, election |
| `front_end_restarted{ports}` + 2 descriptors | fresh streams, new registration, answer `registered` |
| `stop{}` | the session ends (its nodes go), exit 0 |

Out besides: `session{...}`, what a successor needs to resume the session, at each new one; `registered` unasked
when a session expired and the broker registered anew; `failed{why}`, exit 1.

Runs in: controller (trio).
"""
from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Any

import trio

from broker.config.kafka_config import KafkaConfig
from controller.channel import OwnFrontEnd
from controller.event_loop import Event, EventLoop
from controller.events import FrontEndRestarted, RegisterWanted
from controller.metadata_store.errors import (
    ConnectionLossError,
    SessionExpiredError,
    StoreRefusedError,
    StoreUnavailableError,
)
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId
from controller.node_identity import identify
from controller.node_sessions import NodeSessions, sessions_of
from controller.outside import Outside, tcp_transports
from controller.registration import RegistrationRefusedError
from controller.remote_controller import RemoteController
from controller.request_versions import request_versions
from controller.znodes import ZnodeFormatError
from storage.errors import StorageError
from storage.ipc.contexts import ControllerContext
from storage.ipc.control import ControlClosedError, ControlSocket

_log = logging.getLogger(__name__)

REFUSALS = (StoreRefusedError, StoreUnavailableError, RegistrationRefusedError, ZnodeFormatError, StorageError)
"""What the operator has to deal with: one sentence, no trace."""

IDENTIFY_RETRY_SECONDS = 0.2


def controller_main(context: ControllerContext) -> int:
    """Exit code: 0 after `stop`, 1 when the node cannot go on (the supervisor was told why)."""
    exit_code = 0
    try:
        trio.run(_run, context)
    except* REFUSALS as refusals:
        _fail(context.control, str(_first(refusals)))
        exit_code = 1
    except* ControlClosedError:
        _log.info("the supervisor is gone")
    return exit_code


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(control: ControlSocket, why: str) -> None:
    _log.error("%s", why)
    control.send({"kind": "failed", "why": why})


async def _run(context: ControllerContext) -> None:
    def keep(session: SessionId) -> None:
        context.control.send({"kind": "session", "id": session.id, "password": session.password})

    sessions = sessions_of(context.config, _session_from(context.session), keep)
    process = ControllerProcess(context, sessions)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.live, nursery)
            await process.follow()
            nursery.cancel_scope.cancel()
        await process.end_session()
    except* REFUSALS:
        with trio.CancelScope(shield=True):
            await process.end_session()
        raise
    finally:
        with trio.CancelScope(shield=True):
            await sessions.close()


def _session_from(kept: Mapping[str, Any]) -> SessionId | None:
    """kept: what an earlier controller process sent as `session`; empty at the first start."""
    if not kept:
        return None
    return SessionId(kept["id"], kept["password"])


class ControllerProcess:
    """The event loop, once there is one, and what waits for it."""

    def __init__(self, context: ControllerContext, sessions: NodeSessions) -> None:
        self._context = context
        self._config: KafkaConfig = context.config
        self._control = context.control
        self._sessions = sessions
        self._store: MetadataStore | None = None
        self._loop: EventLoop | None = None
        self._early: list[Event] = []

    async def live(self, nursery: trio.Nursery) -> None:
        self._store = await self._sessions.open()
        broker_id = await self._identify()
        transport_to = tcp_transports(self._config)
        versions = request_versions(self._config["inter.broker.protocol.version"])
        remote = RemoteController(nursery, broker_id, transport_to, self._config["request.timeout.ms"] / 1000,
                                  versions.controlled_shutdown)
        outside = Outside(self._registered, self._renew_session, transport_to, remote.forward)
        loop = EventLoop(self._store, self._config, broker_id, nursery, outside)
        from_broker = _stream(self._context.from_broker)
        await loop.start(OwnFrontEnd(self._context.to_broker), from_broker)
        self._loop = loop
        for event in self._early:
            loop.post(event)
        await loop.run()

    async def _identify(self) -> int:
        """A lost connection or session on the way begins it again: nothing in it counts twice."""
        while True:
            assert self._store is not None
            try:
                return await identify(self._context, self._sessions, self._store)
            except StoreUnavailableError:
                raise
            except ConnectionLossError as error:
                _log.warning("%s cannot be reached, trying again: %s", self._sessions.store_name, error)
            except SessionExpiredError:
                self._store = await self._sessions.open()
            await trio.sleep(IDENTIFY_RETRY_SECONDS)

    async def _renew_session(self) -> MetadataStore:
        self._store = await self._sessions.renew()
        return self._store

    def _registered(self, epoch: int) -> None:
        self._control.send({"kind": "registered", "broker_epoch": epoch})

    async def follow(self) -> None:
        """Until `stop`; ControlClosedError when the supervisor dies."""
        while True:
            await trio.lowlevel.wait_readable(self._control.fileno())
            while (received := self._control.receive_nowait()) is not None:
                message, descriptors = received
                if message["kind"] == "stop":
                    return
                self._post(_event_of(message, descriptors))

    def _post(self, event: Event) -> None:
        if self._loop is None:
            self._early.append(event)
        else:
            self._loop.post(event)

    async def end_session(self) -> None:
        if self._store is not None:
            await self._sessions.end(self._store)


def _event_of(message: Mapping[str, Any], descriptors: list[int]) -> Event:
    match message["kind"]:
        case "register":
            return RegisterWanted(bool(message.get("resume")), message.get("broker_epoch", -1),
                                  message.get("ports") or {})
        case "front_end_restarted":
            to_broker, from_broker = (socket.socket(fileno=descriptor) for descriptor in descriptors)
            return FrontEndRestarted(OwnFrontEnd(to_broker), _stream(from_broker), message.get("ports") or {})
        case kind:
            raise AssertionError(f"the supervisor sent {kind!r}")


def _stream(sock: socket.socket) -> trio.SocketStream:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

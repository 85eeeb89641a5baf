"""The controller process: from the supervisor's context to an exit code.

Start: the store is opened (after the fork: SQLite must not cross one), Kafka's paths are ensured, cluster id
and broker id are made or found, and `identity` goes to the supervisor before anything in a log directory is
touched. Then control messages become events of the loop.

| message in | what follows |
|---|---|
| `register{resume, broker_epoch, ports}` | registration, answer `registered{broker_epoch}`, election |
| `front_end_restarted{ports}` + 2 descriptors | fresh streams, new registration, answer `registered` |
| `stop{}` | the session ends (its nodes go), exit 0 |

Out besides: `session{...}`, what a successor needs to resume the session; `failed{why}`, exit 1.

Runs in: controller (trio).
"""
from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Any

import trio

from broker.config.kafka_config import KafkaConfig
from broker.protocol.primitives import uuid_to_text
from controller import identity, log_directories, lost_metadata
from controller.cluster_runtime import new_uuid, report
from controller.event_loop import EventLoop
from controller.events import FrontEndRestarted, RegisterWanted
from controller.metadata_store.embedded import EmbeddedDatabase, description_of_this_process
from controller.metadata_store.errors import StoreRefusedError, StoreUnavailableError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId
from controller.registration import RegistrationRefusedError
from controller.znodes import ZnodeFormatError
from storage.errors import StorageError
from storage.ipc.contexts import ControllerContext
from storage.ipc.control import ControlClosedError, ControlSocket

_log = logging.getLogger(__name__)

REFUSALS = (StoreRefusedError, StoreUnavailableError, RegistrationRefusedError, ZnodeFormatError, StorageError)
"""What the operator has to deal with: one sentence, no trace."""


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
    config: KafkaConfig = context.config
    database = await _open_database(config)
    store = await database.open_session(_session_from(context.session))
    context.control.send({"kind": "session", "id": store.session.id, "password": store.session.password})
    try:
        broker_id = await _identify(context, database, store)
        async with trio.open_nursery() as nursery:
            loop = EventLoop(store, config, broker_id, nursery, lambda epoch: context.control.send(
                {"kind": "registered", "broker_epoch": epoch}))
            await loop.start(context.to_broker, context.from_broker)
            nursery.start_soon(loop.run)
            await _follow(context.control, loop)
            nursery.cancel_scope.cancel()
        await store.close()
    finally:
        with trio.CancelScope(shield=True):
            await database.close()


async def _open_database(config: KafkaConfig) -> EmbeddedDatabase:
    assert config.embedded  # the configuration refuses zookeeper.connect in this version
    description = description_of_this_process(config["broker.id"])
    try:
        return await EmbeddedDatabase.open(config.metadata_path, description=description)
    except OSError as error:
        raise StoreRefusedError(config.metadata_path, f"the metadata cannot be opened: {error.strerror}. "
                                "ottla.metadata.path must lie in a directory that can be written") from error


def _session_from(kept: Mapping[str, Any]) -> SessionId | None:
    """kept: what an earlier controller process sent as `session`; empty at the first start."""
    if not kept:
        return None
    return SessionId(kept["id"], kept["password"])


async def _identify(context: ControllerContext, database: EmbeddedDatabase, store: MetadataStore) -> int:
    """Who we are, made out before any log directory is touched; the supervisor is told."""
    config: KafkaConfig = context.config
    claims = await trio.to_thread.run_sync(log_directories.read_claims, config.log_dirs)
    await identity.ensure_paths(store)
    broker_id = await _broker_id(config, claims, database, store)
    claims.check_owner(None, broker_id)
    await lost_metadata.rebuild_if_lost(store, config, claims, broker_id, lambda: uuid_to_text(new_uuid()))
    cluster_id = await identity.cluster_id(store, lambda: uuid_to_text(new_uuid()))
    claims.check_owner(cluster_id, broker_id)
    await database.claim(broker_id)
    if not context.session:
        report(await log_directories.describe_unknown(store, claims.directories))
    context.control.send({"kind": "identity", "cluster_id": cluster_id, "broker_id": broker_id})
    return broker_id


async def _broker_id(config: KafkaConfig, claims: log_directories.Claims, database: EmbeddedDatabase,
                     store: MetadataStore) -> int:
    """broker.id; if that is -1 the id in meta.properties, as in Kafka, or the one made earlier, or a new one."""
    configured: int = config["broker.id"]
    if configured >= 0:
        return configured
    if claims.broker_id is not None:
        return claims.broker_id[0]
    owner = await database.owner()
    if owner is not None:
        return owner
    return await identity.generate_broker_id(store, config["reserved.broker.max.id"])


async def _follow(control: ControlSocket, loop: EventLoop) -> None:
    """Until `stop`; ControlClosedError when the supervisor dies."""
    while True:
        await trio.lowlevel.wait_readable(control.fileno())
        while (received := control.receive_nowait()) is not None:
            message, descriptors = received
            match message["kind"]:
                case "register":
                    loop.post(RegisterWanted(bool(message.get("resume")), message.get("broker_epoch", -1),
                                             message.get("ports") or {}))
                case "front_end_restarted":
                    to_broker, from_broker = (socket.socket(fileno=descriptor) for descriptor in descriptors)
                    loop.post(FrontEndRestarted(to_broker, from_broker, message.get("ports") or {}))
                case "stop":
                    return
                case kind:
                    raise AssertionError(f"the supervisor sent {kind!r}")

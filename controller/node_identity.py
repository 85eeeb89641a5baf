"""Who this node is, made out before any log directory is touched; the supervisor is told.

What the directories say (meta.properties) is compared with what the metadata store says. A contradiction ends
the start with both values and where each came from, and nothing was changed: not the directories, and in a
ZooKeeper no node but an empty chroot was made.

| the store has | the directories say | embedded store | ZooKeeper |
|---|---|---|---|
| a cluster | the same, or nothing | go on | go on |
| a cluster | another one | refused | refused |
| none | nothing, no partitions | a new cluster | a new cluster |
| none | a cluster | made anew from them (`lost_metadata`) | refused: it may be the wrong one |
| none | partitions, but no cluster | made anew from them | a new cluster; they are left alone |

Partitions that a ZooKeeper does not know are left alone, as Kafka leaves them: their topic was deleted
meanwhile, or they belong to a topic that will be created. They are named in the log.

Runs in: controller, at its start.
"""
from __future__ import annotations

import os

import trio

from broker.config.kafka_config import KafkaConfig
from broker.protocol.primitives import uuid_to_text
from controller import identity, log_directories, lost_metadata, znodes
from controller.cluster_runtime import new_uuid, report
from controller.log_directories import Claims
from controller.metadata_store.errors import StoreRefusedError
from controller.metadata_store.interface import MetadataStore
from controller.node_sessions import NodeSessions
from storage.ipc.contexts import ControllerContext


async def identify(context: ControllerContext, sessions: NodeSessions, store: MetadataStore) -> int:
    """The broker id. StoreRefusedError or ForeignDirectoryError with what to do."""
    config: KafkaConfig = context.config
    claims = await trio.to_thread.run_sync(log_directories.read_claims, config.log_dirs)
    if not config.embedded:
        await _check_zookeeper(store, config, claims, sessions.store_name)
    await identity.ensure_paths(store)
    broker_id = await _broker_id(config, claims, sessions, store)
    claims.check_owner(None, broker_id)
    if config.embedded:
        await lost_metadata.rebuild_if_lost(store, config, claims, broker_id, _new_cluster_id)
    cluster_id = await identity.cluster_id(store, _new_cluster_id)
    claims.check_owner(cluster_id, broker_id)
    await sessions.claim(broker_id)
    if config.embedded and not context.session:
        report(await log_directories.describe_unknown(store, claims.directories))
    context.control.send({"kind": "identity", "cluster_id": cluster_id, "broker_id": broker_id})
    if not (config.embedded or context.session):  # a request for each partition: while they are being loaded
        report(await log_directories.describe_unknown(store, claims.directories))
    return broker_id


def _new_cluster_id() -> str:
    return uuid_to_text(new_uuid())


async def _check_zookeeper(store: MetadataStore, config: KafkaConfig, claims: Claims, store_name: str) -> None:
    """Before any node is made there."""
    claimed = claims.cluster_id
    if claimed is None:
        return
    cluster_id, path = claimed
    found = await store.find_data(znodes.CLUSTER_ID)
    there = None if found is None else znodes.decode_cluster_id(found.data)
    if there == cluster_id:
        return
    says = f"has no cluster yet ({znodes.CLUSTER_ID} is missing)" if there is None else \
        f"is of cluster.id={there} ({znodes.CLUSTER_ID})"
    remedies = ["If zookeeper.connect is wrong (host, port, or the chroot at its end), correct it",
                "if log.dirs is, correct that"]
    if os.path.exists(config.metadata_path) and there is None:
        remedies.append(f"if this node kept its metadata in {config.metadata_path} until now, bring them there "
                        "first: ottla metadata copy --to-zookeeper server.properties")
    elif there is None:
        remedies.append("if ZooKeeper has lost its data, restore them from a copy")
    raise StoreRefusedError("", (
        f"{path} says cluster.id={cluster_id}, but {store_name} {says}. Nothing was changed. "
        + "; ".join(remedies)))


async def _broker_id(config: KafkaConfig, claims: Claims, sessions: NodeSessions, store: MetadataStore) -> int:
    """broker.id; if that is -1 the id in meta.properties, as in Kafka, or the one made earlier, or a new one."""
    configured: int = config["broker.id"]
    if configured >= 0:
        return configured
    if claims.broker_id is not None:
        return claims.broker_id[0]
    owner = await sessions.owner()
    if owner is not None:
        return owner
    return await identity.generate_broker_id(store, config["reserved.broker.max.id"])

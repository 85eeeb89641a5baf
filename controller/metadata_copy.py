"""`ottla metadata copy`: a node's metadata from the embedded store into a ZooKeeper, or back.

What lasts is copied: every persistent node with its data, parents first, and the count of generated broker ids
(the version of `/brokers/seqid`). What does not: registrations and offices, notifications of changes (whoever
starts reads everything). Node versions begin anew; leader and controller epochs are data, and stay.

| | into ZooKeeper | from ZooKeeper |
|---|---|---|
| the node | must be stopped: the embedded store is locked | must be stopped: no broker may be registered |
| the target | holds no cluster; what an interrupted copy left is made good | holds nothing |
| also refused | another cluster or broker than the directories' | partitions with replicas on other brokers |
| all or nothing | `/cluster/id` is written last, and no node starts without it | one transaction |
| afterwards | the embedded file is renamed: it would be stale | the tree in ZooKeeper stays |

Runs in: the process of the command. The node's own processes do not run.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from broker.config.kafka_config import KafkaConfig
from controller import znodes
from controller.log_directories import Claims, read_claims
from controller.metadata_store.embedded import EmbeddedDatabase
from controller.metadata_store.errors import (
    NodeExistsError,
    StoreError,
    StoreRefusedError,
    raise_if_error,
)
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Create,
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
    Request,
    SetData,
)
from controller.metadata_store.zookeeper_settings import settings_from
from storage.errors import StorageError

_T = TypeVar("_T")

REFUSALS = (StoreError, StorageError, znodes.ZnodeFormatError)
COPIED_SUFFIX = ".copied-to-zookeeper"
REQUESTS_PER_SUBMIT = 500
GENERATED_IDS_MAX = 100_000
"""Each costs a write: more brokers than this were never in one cluster."""

_NOTIFICATIONS = (znodes.CONFIG_CHANGES, znodes.ISR_CHANGE_NOTIFICATION, znodes.LOG_DIR_EVENT_NOTIFICATION)
_ZOOKEEPERS_OWN = "/zookeeper"
_DESCRIPTION = "ottla metadata copy"


@dataclass(slots=True)
class Copied:
    """nodes: path -> data, parents first, without the cluster id's node. generated_ids: see above."""

    nodes: dict[str, bytes | None] = field(default_factory=dict)
    cluster_id: bytes | None = None
    generated_ids: int = 0

    @property
    def topics(self) -> list[str]:
        prefix = znodes.TOPICS + "/"
        return [path[len(prefix):] for path in self.nodes if path.startswith(prefix) and path.count("/") == 3]


def copy_metadata(config: KafkaConfig, to_zookeeper: bool) -> str:
    """What was done, in a sentence. Any of REFUSALS with what to do."""
    if config.embedded:
        raise StoreRefusedError("", "zookeeper.connect is not set: it says which ZooKeeper is meant. Set it in "
                                    "server.properties, or give it with "
                                    "--override zookeeper.connect=HOST:PORT/CHROOT")
    return trio.run(_to_zookeeper if to_zookeeper else _from_zookeeper, config)


async def _to_zookeeper(config: KafkaConfig) -> str:
    from controller.metadata_store.zookeeper import open_session

    path = config.metadata_path
    if not os.path.exists(path):
        raise StoreRefusedError(path, "there are no embedded metadata to copy (ottla.metadata.path)")
    claims = read_claims(config.log_dirs)
    database = await EmbeddedDatabase.open(path, description=_DESCRIPTION)
    try:
        copied = await read_tree(await database.open_session())
        _check_source(path, config, copied, claims, await database.owner())
        settings = settings_from(config)
        target = await open_session(settings)
        try:
            await _check_target(target, f"ZooKeeper at {settings.hosts}{settings.chroot}", copied)
            await write_tree(target, copied)
        finally:
            await target.close()
    finally:
        await database.close()
    for suffix in ("", "-wal"):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, path + COPIED_SUFFIX + suffix)
    return (f"{len(copied.nodes) + 1} nodes of {len(copied.topics)} topics are in ZooKeeper at {settings.hosts}"
            f"{settings.chroot}; {path} is now {path}{COPIED_SUFFIX}. Start the node with zookeeper.connect")


async def _from_zookeeper(config: KafkaConfig) -> str:
    from controller.metadata_store.zookeeper import open_session

    path = config.metadata_path
    claims = read_claims(config.log_dirs)
    settings = settings_from(config)
    source = await open_session(settings)
    name = f"ZooKeeper at {settings.hosts}{settings.chroot}"
    try:
        registered = await _children(source, znodes.BROKER_IDS)
        if registered:
            raise StoreRefusedError("", f"{name} has live brokers ({', '.join(sorted(registered))}): "
                                        "stop them first")
        copied = await read_tree(source)
    finally:
        await source.close()
    broker_id = _broker_id(config, claims)
    _check_source(name, config, copied, claims, None)
    _check_replicas(name, copied, broker_id)
    database = await EmbeddedDatabase.open(path, description=_DESCRIPTION)
    try:
        target = await database.open_session()
        await _check_target(target, path, Copied())
        await database.claim(broker_id)
        await write_tree(target, copied, batch_size=len(copied.nodes) + copied.generated_ids + 1)
        await target.close()
    finally:
        await database.close()
    return (f"{len(copied.nodes) + 1} nodes of {len(copied.topics)} topics are in {path}. Start the node without "
            f"zookeeper.connect; {name} is left as it was, and stale from then on")


# Checks


def _check_source(name: str, config: KafkaConfig, copied: Copied, claims: Claims, owner: int | None) -> None:
    if copied.cluster_id is None:
        raise StoreRefusedError("", f"{name} holds no cluster: there is nothing to copy")
    cluster_id = znodes.decode_cluster_id(copied.cluster_id)
    claimed = claims.cluster_id
    if claimed is not None and claimed[0] != cluster_id:
        raise StoreRefusedError("", f"{name} is of cluster.id={cluster_id}, but {claimed[1]} says "
                                    f"cluster.id={claimed[0]}: correct log.dirs, or where the metadata are")
    configured = config["broker.id"]
    if owner is not None and configured >= 0 and owner != configured:
        raise StoreRefusedError("", f"{name} belongs to broker {owner}, but broker.id says {configured}: "
                                    "set it back")


def _check_replicas(name: str, copied: Copied, broker_id: int) -> None:
    for topic in copied.topics:
        assignment = znodes.decode_topic(topic, copied.nodes[znodes.topic_path(topic)])
        others = {replica for each in assignment.partitions.values() for replica in each.replicas} - {broker_id}
        if others:
            raise StoreRefusedError("", f"topic {topic!r} in {name} has replicas on broker "
                                        f"{', '.join(map(str, sorted(others)))}, and the embedded store serves "
                                        f"broker {broker_id} alone: move them to it, or delete the topic")


def _broker_id(config: KafkaConfig, claims: Claims) -> int:
    configured: int = config["broker.id"]
    if configured >= 0:
        return configured
    if claims.broker_id is None:
        raise StoreRefusedError("", "broker.id is not set and no meta.properties says which broker this is: set it")
    return claims.broker_id[0]


async def _check_target(target: MetadataStore, name: str, copied: Copied) -> None:
    found = await target.find_data(znodes.CLUSTER_ID)
    if found is not None:
        raise StoreRefusedError("", (
            f"{name} holds cluster.id={znodes.decode_cluster_id(found.data)} already, and is not overwritten. Give "
            "another chroot or path, or move away what is there"))
    strangers = sorted(set(await _children(target, znodes.TOPICS)) - set(copied.topics))
    if strangers:
        raise StoreRefusedError("", f"{name} holds topics that the source has not ({', '.join(strangers[:5])}): "
                                    "it is not what an interrupted copy has left. Give another chroot or path")


# Reading and writing trees


async def _children(store: MetadataStore, path: str) -> tuple[str, ...]:
    (outcome,) = await store.submit([GetChildren(path)])
    return outcome.children if isinstance(outcome, GetChildrenResult) else ()


async def read_tree(store: MetadataStore) -> Copied:
    """Everything that lasts."""
    copied = Copied()
    level = ["/"]
    while level:
        below = []
        for part in _parts(level, REQUESTS_PER_SUBMIT // 2):
            outcomes = await store.submit(
                [request for path in part for request in (GetData(path), GetChildren(path))])
            for outcome in outcomes:
                raise_if_error(outcome)  # what cannot be read must not be missing from the copy
            for path, data, children in zip(part, outcomes[::2], outcomes[1::2], strict=True):
                assert isinstance(data, GetDataResult) and isinstance(children, GetChildrenResult)
                if not data.stat.ephemeral_owner:
                    _take(copied, path, data)
                    below += _lasting(path, children.children)
        level = below
    return copied


def _take(copied: Copied, path: str, found: GetDataResult) -> None:
    if path == znodes.CLUSTER_ID:
        copied.cluster_id = found.data
    elif path != "/":
        copied.nodes[path] = found.data
    if path == znodes.BROKER_SEQUENCE_ID:
        copied.generated_ids = found.stat.version


def _lasting(path: str, children: Iterable[str]) -> list[str]:
    if path in _NOTIFICATIONS:
        return []
    parent = "" if path == "/" else path
    return [f"{parent}/{child}" for child in sorted(children) if f"{parent}/{child}" != _ZOOKEEPERS_OWN]


async def write_tree(store: MetadataStore, copied: Copied, batch_size: int = REQUESTS_PER_SUBMIT) -> None:
    """The cluster id comes last."""
    if copied.generated_ids > GENERATED_IDS_MAX:
        raise StoreRefusedError(znodes.BROKER_SEQUENCE_ID,
                                f"version {copied.generated_ids} is not a count of brokers")
    requests: list[Request] = [Create(path, data) for path, data in copied.nodes.items()]
    requests += [SetData(znodes.BROKER_SEQUENCE_ID, None)] * await _ids_to_generate(store, copied)
    requests.append(Create(znodes.CLUSTER_ID, copied.cluster_id))
    for part in _parts(requests, batch_size):
        await _write(store, part)


async def _write(store: MetadataStore, requests: Sequence[Request]) -> None:
    """What an interrupted copy has made is set once more."""
    again: list[Request] = []
    for request, outcome in zip(requests, await store.submit(requests), strict=True):
        if isinstance(outcome, NodeExistsError) and isinstance(request, Create):
            if request.path != znodes.BROKER_SEQUENCE_ID:
                again.append(SetData(request.path, request.data))
        else:
            raise_if_error(outcome)
    if again:
        for outcome in await store.submit(again):
            raise_if_error(outcome)


async def _ids_to_generate(store: MetadataStore, copied: Copied) -> int:
    """An interrupted copy may have counted some already."""
    there = await store.exists(znodes.BROKER_SEQUENCE_ID)
    return max(0, copied.generated_ids - (0 if there is None else there.version))


def _parts(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[first:first + size] for first in range(0, len(items), size)]

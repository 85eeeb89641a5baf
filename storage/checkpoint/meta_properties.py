"""`meta.properties`: which cluster and which broker a log directory belongs to.

Runs in: controller (every directory is checked before anything in any of them is touched), storage (its own,
before it is loaded). No state.
ZooKeeper mode writes version 0. Version 1 (KRaft, `node.id`) is read so that the refusal can name it;
`directory.id` comes with a migration and is kept when the file is rewritten.
"""
from __future__ import annotations

from typing import Final, NamedTuple

from storage.checkpoint.checkpoint_file import INT32_MAX, INT32_MIN, parse_number, read_text_file
from storage.checkpoint.java_properties import encode_properties, parse_properties
from storage.errors import CorruptLogError, StorageError
from storage.fs import OS_FILES, FileLayer

META_PROPERTIES: Final = "meta.properties"
ZOOKEEPER_VERSION: Final = 0
KRAFT_VERSION: Final = 1
_SIZE_BYTES_MAX: Final = 1 << 20


class MetaProperties(NamedTuple):
    """None: the key is absent, which version 0 allows."""

    cluster_id: str | None
    broker_id: int | None
    version: int = ZOOKEEPER_VERSION
    directory_id: str | None = None


class ForeignDirectoryError(StorageError):
    """The directory belongs to another cluster or broker. The text says what to do."""


def check_owner(path: str, found: MetaProperties, cluster_id: str | None, broker_id: int) -> None:
    """ForeignDirectoryError unless the file at `path` is of ZooKeeper mode and names this cluster and broker.

    cluster_id: None while the cluster has none yet. Keys that the file leaves out do not contradict.
    """
    if found.version != ZOOKEEPER_VERSION:
        raise ForeignDirectoryError(
            f"{path} is of version {found.version} (KRaft); only ZooKeeper mode's version {ZOOKEEPER_VERSION} "
            "can be used. Use another log.dirs entry")
    if found.broker_id is not None and found.broker_id != broker_id:
        raise ForeignDirectoryError(
            f"{path} says broker.id={found.broker_id}, but this broker is {broker_id}. Set broker.id to "
            f"{found.broker_id}, or correct log.dirs")
    if None not in (found.cluster_id, cluster_id) and found.cluster_id != cluster_id:
        raise ForeignDirectoryError(
            f"{path} says cluster.id={found.cluster_id}, but the metadata store says {cluster_id}. If the "
            "metadata store is the wrong one, correct zookeeper.connect or ottla.metadata.path; if the "
            "directory is, correct log.dirs")


def read_meta_properties(path: str, files: FileLayer = OS_FILES) -> MetaProperties | None:
    """None if there is no file. Raises CorruptLogError when a Kafka would refuse the file as well."""
    data = read_text_file(files, path, _SIZE_BYTES_MAX)
    return None if data is None else decode_meta_properties(path, data)


def decode_meta_properties(path: str, data: bytes) -> MetaProperties:
    try:
        properties = parse_properties(data)
    except ValueError as error:
        raise CorruptLogError(path, 0, str(error)) from error
    version = parse_number(path, 0, properties.get("version", "0").strip(), INT32_MIN, INT32_MAX)
    if version not in (ZOOKEEPER_VERSION, KRAFT_VERSION):
        raise CorruptLogError(path, 0, f"meta.properties version {version} is unknown")
    id_text = properties.get("broker.id" if version == ZOOKEEPER_VERSION else "node.id")
    broker_id = None if id_text is None else parse_number(path, 0, id_text, INT32_MIN, INT32_MAX)
    cluster_id = properties.get("cluster.id")
    if version == KRAFT_VERSION and (broker_id is None or cluster_id is None):
        raise CorruptLogError(path, 0, "meta.properties version 1 without node.id or cluster.id")
    return MetaProperties(cluster_id, broker_id, version, properties.get("directory.id"))


def encode_meta_properties(meta: MetaProperties, now_ms: int) -> bytes:
    """Keys in the order in which Java's hash table gives them, so that the bytes are Kafka's."""
    if meta.version != ZOOKEEPER_VERSION:
        raise ValueError(f"only version {ZOOKEEPER_VERSION} is written, not {meta.version}")
    entries = [
        ("broker.id", None if meta.broker_id is None else str(meta.broker_id)),
        ("directory.id", meta.directory_id),
        ("version", str(meta.version)),
        ("cluster.id", meta.cluster_id),
    ]
    return encode_properties(((key, value) for key, value in entries if value is not None), now_ms)


def write_meta_properties(path: str, meta: MetaProperties, now_ms: int,
                          files: FileLayer = OS_FILES) -> None:
    """now_ms: wall time for the date comment."""
    files.durable_write(path, encode_meta_properties(meta, now_ms))

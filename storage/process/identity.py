"""Is this directory ours? Checked before anything in it is touched (REVIEW item 26).

What: meta.properties of one directory against the node's cluster id and broker id; written where it is
missing, in Kafka's version 0 (on-disk facts, 2).
Runs in: storage, once, before the logs are loaded.
"""

from __future__ import annotations

import os

from storage.checkpoint.meta_properties import (
    META_PROPERTIES,
    ZOOKEEPER_VERSION,
    MetaProperties,
    read_meta_properties,
    write_meta_properties,
)
from storage.errors import StorageError


class ForeignDirectoryError(StorageError):
    """The directory belongs to another cluster or broker."""


def claim(directory: str, cluster_id: str, broker_id: int, now_ms: int) -> None:
    """Raises ForeignDirectoryError or CorruptLogError without having changed anything."""
    path = os.path.join(directory, META_PROPERTIES)
    found = read_meta_properties(path)
    if found is None:
        write_meta_properties(path, MetaProperties(cluster_id, broker_id), now_ms)
        return
    if found.version != ZOOKEEPER_VERSION:
        raise ForeignDirectoryError(
            f"{path} is of version {found.version} (KRaft); only ZooKeeper mode's version {ZOOKEEPER_VERSION} "
            "can be used. Use another log.dirs entry"
        )
    if found.cluster_id is not None and found.cluster_id != cluster_id:
        raise ForeignDirectoryError(
            f"{path} says cluster.id={found.cluster_id}, but the metadata store says {cluster_id}. If the metadata "
            "store is the wrong one, correct zookeeper.connect or ottla.metadata.path; if the directory is, "
            "correct log.dirs"
        )
    if found.broker_id is not None and found.broker_id != broker_id:
        raise ForeignDirectoryError(
            f"{path} says broker.id={found.broker_id}, but this broker is {broker_id}. Set broker.id to "
            f"{found.broker_id}, or correct log.dirs"
        )
    if found.cluster_id is None or found.broker_id is None:
        write_meta_properties(path, found._replace(cluster_id=cluster_id, broker_id=broker_id), now_ms)

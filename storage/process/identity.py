"""Is this directory ours? Checked before anything in it is touched (REVIEW item 26).

What: meta.properties of one directory against the node's cluster id and broker id; written where it is
missing, in Kafka's version 0 (on-disk facts, 2).
Runs in: storage, once, before the logs are loaded.
"""

from __future__ import annotations

import os

from storage.checkpoint.meta_properties import (
    META_PROPERTIES,
    MetaProperties,
    check_owner,
    read_meta_properties,
    write_meta_properties,
)


def claim(directory: str, cluster_id: str, broker_id: int, now_ms: int) -> None:
    """Raises ForeignDirectoryError or CorruptLogError without having changed anything."""
    path = os.path.join(directory, META_PROPERTIES)
    found = read_meta_properties(path)
    if found is None:
        write_meta_properties(path, MetaProperties(cluster_id, broker_id), now_ms)
        return
    check_owner(path, found, cluster_id, broker_id)
    if found.cluster_id is None or found.broker_id is None:
        write_meta_properties(path, found._replace(cluster_id=cluster_id, broker_id=broker_id), now_ms)

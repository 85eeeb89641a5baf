"""Nodes of a ZooKeeper and of an embedded store, as {path: data}.

Why by hand: Kafka on directories that an embedded Ottla has written needs a ZooKeeper that says the same.
Runs in: the test process.
"""
from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

Nodes = dict[str, bytes | None]
METADATA_FILE = "ottla-metadata.sqlite"
CLUSTER_NODES = ("/brokers/topics", "/cluster", "/config/topics", "/controller_epoch", "/latest_producer_id_block")
"""What outlives the brokers of a cluster, below these paths."""


def read_zookeeper(connect_string: str, chroot: str) -> Nodes:
    """The cluster's nodes."""
    found: Nodes = {}
    client = KazooClient(connect_string + chroot)
    client.start()
    try:
        todo = list(CLUSTER_NODES)
        for path in todo:
            data, _ = client.get(path)
            found[path] = data or None
            todo += [f"{path}/{child}" for child in client.get_children(path)]
    finally:
        client.stop()
        client.close()
    return found


def write_zookeeper(connect_string: str, chroot: str, nodes: Mapping[str, bytes | None]) -> None:
    """Make a chroot that holds these nodes and nothing else."""
    client = KazooClient(connect_string)
    client.start()
    try:
        for path, data in sorted(nodes.items()):
            client.create(chroot + path, data or b"", makepath=True)
    finally:
        client.stop()
        client.close()


def read_embedded(log_dir: Path) -> Nodes:
    """The cluster's nodes in the store of a broker that has ended. Opening it may replay its journal."""
    with closing(sqlite3.connect(log_dir / METADATA_FILE)) as connection:
        rows: list[tuple[str, bytes | None]] = connection.execute("SELECT path, data FROM node").fetchall()
    return {path: data for path, data in rows
            if any(path == node or path.startswith(node + "/") for node in CLUSTER_NODES)}


def topics(nodes: Nodes) -> dict[str, Any]:
    """name -> its node's JSON."""
    prefix = "/brokers/topics/"
    return {path.removeprefix(prefix): json.loads(data or b"") for path, data in nodes.items()
            if path.startswith(prefix) and "/" not in path.removeprefix(prefix)}


def leader_epochs(nodes: Nodes) -> dict[tuple[str, int], int]:
    """(topic, partition) -> leader epoch of its state node."""
    found = {}
    for path, data in nodes.items():
        parts = path.split("/")
        if parts[-1] == "state":
            found[parts[3], int(parts[5])] = json.loads(data or b"")["leader_epoch"]
    return found

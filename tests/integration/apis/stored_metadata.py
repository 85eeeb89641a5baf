"""Changes of the stored cluster metadata behind a stopped broker's back.

Why: on one broker leader epochs never grow and no leader ever dies, so the behaviours that need either are
brought about by writing the partition's state node, which has the same path and JSON in ZooKeeper and in
Ottla's embedded store.
Runs in: the test process, while the broker is down.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from kazoo.client import KazooClient

from tests.integration.apis.brokers import ApiBroker
from tests.peers.kafka_cluster import KafkaBroker

States = Mapping[tuple[str, int], Mapping[str, object]]


def change_partition_states(broker: ApiBroker, changes: States) -> None:
    """changes: (topic, partition) -> fields of its state node."""
    if isinstance(broker.node, KafkaBroker):
        _in_zookeeper(broker.node, changes)
    else:
        _in_sqlite(str(broker.node.log_dirs[0] / "ottla-metadata.sqlite"), changes)


def _path(topic: str, partition: int) -> str:
    return f"/brokers/topics/{topic}/partitions/{partition}/state"


def _changed(data: bytes, fields: Mapping[str, object]) -> bytes:
    return json.dumps({**json.loads(data), **fields}).encode()


def _in_zookeeper(node: KafkaBroker, changes: States) -> None:
    client = KazooClient(node.properties()["zookeeper.connect"])
    client.start()
    try:
        for place, fields in changes.items():
            data, _ = client.get(_path(*place))
            client.set(_path(*place), _changed(data, fields))
    finally:
        client.stop()
        client.close()


def _in_sqlite(file: str, changes: States) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for place, fields in changes.items():
            path = _path(*place)
            ((data,),) = connection.execute("SELECT data FROM node WHERE path = ?", (path,)).fetchall()
            connection.execute(
                "UPDATE node SET data = ?, version = version + 1 WHERE path = ?", (_changed(data, fields), path)
            )

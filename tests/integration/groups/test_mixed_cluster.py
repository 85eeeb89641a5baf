"""Kafka and Ottla as brokers of one cluster: either coordinates its groups, each names the other for the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.wire import Client
from tests.integration.groups.members import commit, committed, describe, fetch_offsets, find_coordinator
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
SETTINGS = {
    "offsets.topic.num.partitions": "6", "offsets.topic.replication.factor": "1",
    "default.replication.factor": "1", "num.partitions": "1",
}  # fmt: skip
GROUPS = [f"mixed-{number}" for number in range(12)]
KAFKA_ID, OTTLA_ID = 1, 2


def _coordinators(client: Client) -> dict[str, int]:
    """Group -> broker id; -1 while it is not known."""
    found = {group: find_coordinator(client, group) for group in GROUPS}
    return {group: answer.node_id if not answer.error_code else -1 for group, answer in found.items()}


def test_groups_are_shared_out(
    make_kafka: Callable[..., KafkaBroker], make_ottla: Callable[..., OttlaBroker], zookeeper: ZooKeeper,
    tmp_path: Path,
) -> None:  # fmt: skip
    chroot = f"/{tmp_path.name}-mixed"
    theirs = make_kafka(overrides=SETTINGS, broker_id=KAFKA_ID, chroot=chroot)
    theirs.start()
    connect = {"zookeeper.connect": zookeeper.connect_string + chroot}
    ours = make_ottla(overrides={**SETTINGS, **connect}, broker_id=OTTLA_ID)
    ours.start()
    brokers = {KAFKA_ID: ApiBroker(theirs, 0), OTTLA_ID: ApiBroker(ours, 0)}
    with brokers[KAFKA_ID].connect() as kafka, brokers[OTTLA_ID].connect() as ottla:
        clients = {KAFKA_ID: kafka, OTTLA_ID: ottla}
        wait_until(lambda: -1 not in _coordinators(ottla).values(), "every group has a coordinator", 30)
        wait_until(lambda: _coordinators(ottla) == _coordinators(kafka), "both name the same", 30)
        places = _coordinators(ottla)
        assert set(places.values()) == {KAFKA_ID, OTTLA_ID}
        topic = brokers[KAFKA_ID].topic().name
        for number, (group, place) in enumerate(places.items()):
            right, wrong = clients[place], clients[KAFKA_ID + OTTLA_ID - place]
            wait_until(lambda right=right, group=group: not fetch_offsets(right, group).error_code, "loaded", 20)
            wait_until(
                lambda right=right, group=group, number=number: commit(right, group, {(topic, 0): number})
                == {(topic, 0): ErrorCode.NONE}, "committed", 20,
            )  # fmt: skip
            assert committed(right, group, topic) == number
            assert commit(wrong, group, {(topic, 0): 99}) == {(topic, 0): ErrorCode.NOT_COORDINATOR}
            assert describe(wrong, group).error_code == ErrorCode.NOT_COORDINATOR

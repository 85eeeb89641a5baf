"""A group begun on Kafka 3.9.1 goes on in Ottla on the same directories, and back again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.groups.members import (
    Member,
    commit,
    committed,
    delete_group,
    describe,
    wait_for_coordinator,
)
from tests.peers.kafka_cluster import KafkaBroker
from tests.peers.ottla_broker import OttlaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
SETTINGS = {"offsets.topic.num.partitions": "3", "group.initial.rebalance.delay.ms": "0"}
STATIC, SIMPLE, GOING = "static", "simple", "going"
SESSION_MS = 120_000
"""Longer than the test: nobody falls out while brokers are exchanged."""


def _come_back(broker: ApiBroker, former: Member) -> Member:
    """The same member on a connection to another broker."""
    member = Member(broker, former.group, former.instance, session_timeout_ms=SESSION_MS)
    member.id, member.generation = former.id, former.generation
    return member


def _goes_on(broker: ApiBroker, former: Member, topic: str, offset: int) -> Member:
    """Everything is as it was left, with `offset` committed; it is one more afterwards."""
    for group in (STATIC, SIMPLE):
        wait_for_coordinator(broker, group)
    member = _come_back(broker, former)
    with broker.connect() as client:
        described = describe(client, STATIC)
        assert (described.group_state, described.protocol_data) == ("Stable", "range")
        (shown,) = described.members
        assert (shown.member_id, shown.group_instance_id) == (former.id, "i1")
        assert (shown.member_metadata, shown.member_assignment) == (former.protocols["range"], b"all")
        assert shown.client_host == "/127.0.0.1"
        assert member.heartbeat() == ErrorCode.NONE
        assert member.sync().assignment == b"all"
        for group in (STATIC, SIMPLE):
            assert committed(client, group, topic) == offset
        assert member.commit(topic, offset + 1) == ErrorCode.NONE
        assert commit(client, SIMPLE, {(topic, 0): offset + 1}) == {(topic, 0): ErrorCode.NONE}
    return member


def test_from_kafka_to_ottla_and_back(
    make_kafka: Callable[..., KafkaBroker], make_ottla: Callable[..., OttlaBroker], tmp_path: Path
) -> None:
    log_dirs = [tmp_path / "logs"]
    arguments = {"overrides": SETTINGS, "broker_id": 1, "log_dirs": log_dirs}
    node = make_kafka(**arguments)
    node.start()
    kafka = ApiBroker(node, 0)
    topic = kafka.topic().name
    with Member(kafka, STATIC, "i1", session_timeout_ms=SESSION_MS) as member, kafka.connect() as client:
        member.settle()
        assert member.commit(topic, 1) == ErrorCode.NONE
        for group in (SIMPLE, GOING):
            wait_for_coordinator(kafka, group)
            assert commit(client, group, {(topic, 0): 1}) == {(topic, 0): ErrorCode.NONE}
    node.stop()

    own = make_ottla(**arguments)
    own.start()
    ottla = ApiBroker(own, 0)
    member = _goes_on(ottla, member, topic, 1)
    assert delete_group(member.client, GOING) == ErrorCode.NONE
    member.client.close()
    assert own.stop() == 0

    node.start()
    member = _goes_on(kafka, member, topic, 2)
    wait_for_coordinator(kafka, GOING)
    assert describe(member.client, GOING).group_state == "Dead"
    member.client.close()

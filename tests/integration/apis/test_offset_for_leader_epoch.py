"""OffsetForLeaderEpoch on a log of one epoch: behaviours 45 and 52 (more epochs: test_after_restart)."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.records import batch
from tests.integration.apis.requests import EpochRequest, append, epoch_end
from tests.integration.apis.wire import Client, versions

ALL_VERSIONS = versions(ApiKey.OFFSET_FOR_LEADER_EPOCH)


def found(result: Any) -> tuple[int, int, int]:
    """(error code, leader epoch, end offset)"""
    return (result.error_code, result.leader_epoch, result.end_offset)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_52_the_latest_epoch_ends_at_the_log_end(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("epochs")
    epoch = 0 if version >= 1 else -1
    for end in (0, 2, 4):
        assert found(epoch_end(client, topic, 0, version=version)) == (0, epoch, end)
        append(client, topic, batch(b"a", b"b"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("epoch", [1, 2**31 - 1, -1])
def test_52_epochs_that_never_were_have_no_end(
    broker: ApiBroker, client: Client, version: int, epoch: int
) -> None:
    topic = broker.topic("epochs")
    assert found(epoch_end(client, topic, epoch, version=version)) == (0, -1, -1)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_52_unknown_topics_and_partitions(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("known")
    for name, partition in (("missing", 0), (topic.name, 1), (topic.name, -1)):
        result = epoch_end(client, name, 0, partition, version)
        assert found(result) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
        assert result.partition == partition


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FOR_LEADER_EPOCH, 2))
def test_45_a_leader_epoch_from_the_future_is_unknown(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = broker.topic("fenced")
    for current, error in ((0, 0), (-1, 0), (1, ErrorCode.UNKNOWN_LEADER_EPOCH)):
        result = epoch_end(client, topic, 0, version=version, current_leader_epoch=current)
        assert result.error_code == error


@pytest.mark.parametrize("replica_id", [-2, -1, 5])
def test_52_any_replica_may_ask(broker: ApiBroker, client: Client, replica_id: int) -> None:
    topic = broker.topic("epochs")
    for version in versions(ApiKey.OFFSET_FOR_LEADER_EPOCH, 3):
        assert found(epoch_end(client, topic, 0, version=version, replica_id=replica_id)) == (0, 0, 0)


def test_52_a_request_without_topics_is_answered(client: Client) -> None:
    for version in ALL_VERSIONS:
        assert list(client.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, EpochRequest()).topics) == []

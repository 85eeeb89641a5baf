"""What only a restart shows: behaviours 20, 23, 32, 35, 45, 46 and 52 with several leader epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import BROKER_ID, ApiBroker, Topic
from tests.integration.apis.records import batch, headers, values_of
from tests.integration.apis.requests import (
    EARLIEST,
    LATEST,
    MAX_TIMESTAMP,
    append,
    epoch_end,
    fetch,
    fetch_partition,
    fetch_request,
    list_offsets,
    new_producer_id,
    only_partition,
    produce,
)
from tests.integration.apis.stored_metadata import change_partition_states
from tests.integration.apis.test_idempotent_produce import send
from tests.integration.apis.test_metadata import DEAD_BROKER, ask_existing, topic_with_dead_replica
from tests.integration.apis.wire import Client, versions
from tests.peers.processes import wait_until

OLD_EPOCH, NEW_EPOCH, DEAD_LEADER_EPOCH = 0, 5, 7


class Restarted(NamedTuple):
    """A broker that was stopped, its metadata changed, and started again.

    epochs: offsets 0-2 written at OLD_EPOCH, 3-4 at NEW_EPOCH, times 100, 200, ... orphan: led by a broker
    that is dead, at DEAD_LEADER_EPOCH. unseen: two records at times 100, 200 above the high watermark 0, because
    the in-sync set is too small. idempotent: has two batches of `producer_id`, sequences 0 and 1.
    """

    broker: ApiBroker
    epochs: Topic
    orphan: Topic
    unseen: Topic
    idempotent: Topic
    producer_id: int
    cluster_id: str


@pytest.fixture(scope="module")
def restarted(variant: ApiBroker) -> Restarted:
    epochs, idempotent = variant.topic("epochs"), variant.topic("idempotent")
    orphan = topic_with_dead_replica(variant, "orphan", [BROKER_ID, DEAD_BROKER])
    unseen = topic_with_dead_replica(variant, "unseen", [BROKER_ID, DEAD_BROKER], min_insync_replicas="2")
    with variant.connect() as client:
        assert produce(client, unseen, batch(b"a", b"b", timestamps=[100, 200]), acks=1).error_code == 0
        append(client, epochs, *[batch(b"v", timestamps=[time]) for time in (100, 200, 300)])
        producer_id = new_producer_id(client)
        assert [send(client, idempotent, producer_id, sequence) for sequence in (0, 1)] == [(0, 0), (0, 1)]
    cluster_id = variant.metadata().cluster_id
    variant.node.stop()
    change_partition_states(variant, {
        (epochs.name, 0): {"leader_epoch": NEW_EPOCH},
        (orphan.name, 0): {"leader": DEAD_BROKER, "isr": [DEAD_BROKER], "leader_epoch": DEAD_LEADER_EPOCH},
    })  # fmt: skip
    variant.node.start()
    variant.wait_for_leaders(epochs.name, 1)
    with variant.connect() as client:
        wait_until(lambda: list_offsets(client, epochs, LATEST).error_code == 0, "the log is led again", 30)
        append(client, epochs, *[batch(b"w", timestamps=[time]) for time in (400, 500)])
    return Restarted(variant, epochs, orphan, unseen, idempotent, producer_id, cluster_id)


@pytest.fixture
def client(restarted: Restarted) -> Iterator[Client]:
    with restarted.broker.connect() as connection:
        yield connection


def test_35_only_the_last_batch_of_a_producer_is_remembered(restarted: Restarted, client: Client) -> None:
    topic, producer_id = restarted.idempotent, restarted.producer_id
    assert send(client, topic, producer_id, 0) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 1) == (0, 1)
    assert send(client, topic, producer_id, 2) == (0, 2)
    assert send(client, topic, producer_id, 1) == (0, 1)


def test_22_cluster_id_and_topic_ids_survive(restarted: Restarted) -> None:
    answer = restarted.broker.metadata(restarted.epochs.name)
    assert answer.cluster_id == restarted.cluster_id
    assert bytes(answer.topics[0].topic_id) == restarted.epochs.id


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 7))
def test_23_metadata_names_the_leader_epoch(restarted: Restarted, client: Client, version: int) -> None:
    (topic,) = ask_existing(client, version, restarted.epochs.name)
    assert (topic.partitions[0].leader_id, topic.partitions[0].leader_epoch) == (BROKER_ID, NEW_EPOCH)


@pytest.mark.parametrize("version", versions(ApiKey.METADATA))
def test_20_a_dead_leader_is_leader_not_available(restarted: Restarted, client: Client, version: int) -> None:
    (topic,) = ask_existing(client, version, restarted.orphan.name)
    (partition,) = topic.partitions
    assert topic.error_code == 0
    assert (partition.error_code, partition.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
    assert list(partition.replica_nodes) == ([BROKER_ID, DEAD_BROKER] if version else [BROKER_ID])
    assert list(partition.isr_nodes) == ([DEAD_BROKER] if version else [])
    assert list(partition.offline_replicas) == ([DEAD_BROKER] if version >= 5 else [])


@pytest.mark.parametrize("version", versions(ApiKey.PRODUCE, 3))
def test_32_produce_to_a_partition_that_is_not_led_here(
    restarted: Restarted, client: Client, version: int
) -> None:
    result = produce(client, restarted.orphan, batch(b"v"), version=version)
    assert (result.error_code, result.base_offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)
    assert (result.current_leader.leader_id, result.current_leader.leader_epoch) == (-1, -1)


@pytest.mark.parametrize("version", range(4, 11))
def test_32_fetch_from_a_partition_that_is_not_led_here(
    restarted: Restarted, client: Client, version: int
) -> None:
    result = fetch(client, restarted.orphan, version=version, max_wait_ms=20_000)
    assert (result.error_code, result.high_watermark) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS))
@pytest.mark.parametrize("timestamp", [LATEST, EARLIEST, 5])
def test_32_offsets_of_a_partition_that_is_not_led_here(
    restarted: Restarted, client: Client, version: int, timestamp: int
) -> None:
    result = list_offsets(client, restarted.orphan, timestamp, version=version)
    assert (result.error_code, result.offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FOR_LEADER_EPOCH))
def test_32_epochs_of_a_partition_that_is_not_led_here(
    restarted: Restarted, client: Client, version: int
) -> None:
    result = epoch_end(client, restarted.orphan, 0, version=version)
    assert (result.error_code, result.end_offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 4))
def test_43_batches_carry_the_epoch_of_their_leader(
    restarted: Restarted, client: Client, version: int
) -> None:
    result = fetch(client, restarted.epochs, version=version)
    data = bytes(result.records)
    assert [header.partition_leader_epoch for header in headers(data)] == [0, 0, 0, NEW_EPOCH, NEW_EPOCH]
    assert values_of(data) == [b"v"] * 3 + [b"w"] * 2


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 9))
def test_45_fetch_with_an_old_leader_epoch_is_fenced(
    restarted: Restarted, client: Client, version: int
) -> None:
    for epoch, error in ((OLD_EPOCH, 74), (NEW_EPOCH - 1, 74), (NEW_EPOCH, 0), (NEW_EPOCH + 1, 75)):
        wanted = fetch_partition(current_leader_epoch=epoch)
        answer = client.call(ApiKey.FETCH, version, fetch_request(version, [(restarted.epochs, [wanted])]))
        result = only_partition(answer)
        assert result.error_code == error
        hinted = version >= 16 and error == ErrorCode.FENCED_LEADER_EPOCH
        hint = (result.current_leader.leader_id, result.current_leader.leader_epoch)
        assert hint == ((BROKER_ID, NEW_EPOCH) if hinted else (-1, -1))
        nodes = [(node.node_id, node.host, node.port) for node in answer.node_endpoints]
        assert nodes == ([(BROKER_ID, *restarted.broker.address)] if hinted else [])


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 4))
@pytest.mark.parametrize("timestamp", [LATEST, EARLIEST, 5])
def test_45_list_offsets_with_an_old_leader_epoch_is_fenced(
    restarted: Restarted, client: Client, version: int, timestamp: int
) -> None:
    for epoch, error in ((OLD_EPOCH, 74), (NEW_EPOCH, 0), (NEW_EPOCH + 1, 75)):
        result = list_offsets(client, restarted.epochs, timestamp, version=version, leader_epoch=epoch)
        assert result.error_code == error


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FOR_LEADER_EPOCH, 2))
def test_45_epoch_look_ups_with_an_old_leader_epoch_are_fenced(
    restarted: Restarted, client: Client, version: int
) -> None:
    for epoch, error in ((OLD_EPOCH, 74), (NEW_EPOCH, 0), (NEW_EPOCH + 1, 75)):
        result = epoch_end(client, restarted.epochs, 0, version=version, current_leader_epoch=epoch)
        assert result.error_code == error


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 12))
@pytest.mark.parametrize(
    ("offset", "last_fetched_epoch", "diverging"),
    [(3, 0, None), (4, 0, (0, 3)), (3, 3, (0, 3)), (5, 5, None), (6, 5, (5, 5)), (1, 0, None)],
)
def test_46_divergence_is_found_by_the_history_of_epochs(
    restarted: Restarted, client: Client, version: int, offset: int, last_fetched_epoch: int,
    diverging: tuple[int, int] | None,
) -> None:  # fmt: skip
    wanted = fetch_partition(offset=offset, last_fetched_epoch=last_fetched_epoch)
    result = only_partition(
        client.call(ApiKey.FETCH, version, fetch_request(version, [(restarted.epochs, [wanted])]))
    )
    assert result.error_code == 0
    assert (result.diverging_epoch.epoch, result.diverging_epoch.end_offset) == (diverging or (-1, -1))
    assert bool(result.records) == (diverging is None and offset < 5)


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FOR_LEADER_EPOCH))
@pytest.mark.parametrize(
    ("asked", "epoch", "end"), [(0, 0, 3), (1, 0, 3), (4, 0, 3), (5, 5, 5), (6, -1, -1), (-1, -1, -1)]
)
def test_52_the_end_of_the_largest_epoch_up_to_the_one_asked_for(
    restarted: Restarted, client: Client, version: int, asked: int, epoch: int, end: int
) -> None:
    result = epoch_end(client, restarted.epochs, asked, version=version)
    assert (result.error_code, result.end_offset) == (0, end)
    assert result.leader_epoch == (epoch if version >= 1 else -1)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 4))
def test_50_offsets_come_with_the_epoch_of_their_batch(
    restarted: Restarted, client: Client, version: int
) -> None:
    def found(timestamp: int) -> tuple[Any, ...]:
        result = list_offsets(client, restarted.epochs, timestamp, version=version)
        return (result.offset, result.timestamp, result.leader_epoch)

    assert found(EARLIEST) == (0, -1, 0)
    assert found(LATEST) == (5, -1, NEW_EPOCH)
    assert found(250) == (2, 300, 0)
    assert found(400) == (3, 400, NEW_EPOCH)
    if version >= 7:
        assert found(MAX_TIMESTAMP) == (4, 500, NEW_EPOCH)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 1))
def test_51_until_the_watermark_reaches_the_leader_s_start_the_end_is_not_told(
    restarted: Restarted, client: Client, version: int
) -> None:
    def error_of(timestamp: int, replica_id: int = -1) -> int:
        result = list_offsets(client, restarted.unseen, timestamp, version=version, replica_id=replica_id)
        return int(result.error_code)

    refusal = ErrorCode.OFFSET_NOT_AVAILABLE if version >= 5 else ErrorCode.LEADER_NOT_AVAILABLE
    assert [error_of(LATEST), error_of(100), error_of(999)] == [refusal] * 3
    assert [error_of(EARLIEST), error_of(LATEST, -2), error_of(100, -2)] == [0, 0, 0]
    if version >= 7:
        assert error_of(MAX_TIMESTAMP) == refusal


def test_51_records_above_the_watermark_stay_unseen(restarted: Restarted, client: Client) -> None:
    result = fetch(client, restarted.unseen)
    assert (result.error_code, result.high_watermark, bytes(result.records or b"")) == (0, 0, b"")

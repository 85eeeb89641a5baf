"""Metadata made anew from what lies in the log directories, when the embedded store was lost (PURE).

Everything that a directory tells is used: topic and partition from the name, the topic id from
`partition.metadata`, the highest leader epoch from the epoch cache, the highest producer id from the
producer snapshots, cluster id and broker id from `meta.properties`. New leader epochs lie above all that
were ever used, or followers and consumers would take the past for the future; producer ids begin above all
that are known, or new producers would meet the sequence numbers of old ones.

What is lost: configuration overrides of topics (those of Kafka's own topics are given, because without
compaction they would lose data), the assignment of partitions whose directory is gone, and, of a topic
without any `partition.metadata`, its id.

Runs in: a command of the operator, on an empty store, while no broker runs.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller import znodes
from controller.cluster import RECOVERED, LeaderAndIsr, ReplicaAssignment
from controller.metadata_store.operations import Create, Request, SetData
from controller.znodes import PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, TopicAssignment


@dataclass(frozen=True, slots=True)
class FoundPartition:
    """One partition directory. topic_id: None without `partition.metadata`; leader_epoch_max: -1 if no
    epoch is known."""

    topic: str
    partition: int
    topic_id: bytes | None
    leader_epoch_max: int


class InconsistentDirectoriesError(Exception):
    """Two directories contradict each other; the operator has to choose."""


def rebuild_requests(found: Iterable[FoundPartition], *, broker_id: int, cluster_id: str, producer_id_max: int,
                     configs: Mapping[str, Mapping[str, str]],
                     new_topic_id: Callable[[], bytes]) -> list[Request]:
    """Writes for a store in which only Kafka's persistent paths exist.

    producer_id_max: -1 if none was found. configs: overrides by topic, for those that need some.
    """
    topics: dict[str, dict[int, FoundPartition]] = {}
    for partition in found:
        partitions = topics.setdefault(partition.topic, {})
        if partition.partition in partitions:
            raise InconsistentDirectoriesError(
                f"{partition.topic}-{partition.partition} lies in two log directories")
        partitions[partition.partition] = partition
    requests: list[Request] = [Create("/cluster"), Create(znodes.CLUSTER_ID, znodes.encode_cluster_id(cluster_id))]
    if producer_id_max >= 0:
        blocks = producer_id_max // PRODUCER_ID_BLOCK_SIZE + 1
        last = ProducerIdBlock(broker_id, (blocks - 1) * PRODUCER_ID_BLOCK_SIZE,
                               blocks * PRODUCER_ID_BLOCK_SIZE - 1)
        requests.append(SetData(znodes.PRODUCER_ID_BLOCK, znodes.encode_producer_id_block(last)))
    for topic, partitions in sorted(topics.items()):
        requests += _topic_requests(topic, partitions, broker_id, configs.get(topic, {}), new_topic_id)
    return requests


def _topic_requests(topic: str, partitions: Mapping[int, FoundPartition], broker_id: int,
                    config: Mapping[str, str], new_topic_id: Callable[[], bytes]) -> list[Request]:
    ids = {partition.topic_id for partition in partitions.values() if partition.topic_id is not None}
    if len(ids) > 1:
        raise InconsistentDirectoriesError(f"partitions of topic {topic} have different topic ids")
    assignment = TopicAssignment(
        ids.pop() if ids else new_topic_id(),
        {number: ReplicaAssignment((broker_id,)) for number in sorted(partitions)})
    requests: list[Request] = [
        Create(znodes.config_path(znodes.TOPIC_CONFIGS, topic), znodes.encode_config(config)),
        Create(znodes.topic_path(topic), znodes.encode_topic(assignment)),
        Create(znodes.partitions_path(topic))]
    for number, partition in sorted(partitions.items()):
        state = LeaderAndIsr(broker_id, partition.leader_epoch_max + 1, (broker_id,), RECOVERED, 0, 0)
        requests += [Create(znodes.partition_path(topic, number)),
                     Create(znodes.partition_state_path(topic, number), znodes.encode_partition_state(state))]
    return requests

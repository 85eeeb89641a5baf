"""Embedded metadata made anew from the log directories, when the file that held them is lost or was never there.

That is also how a single Kafka's directories are taken over without its ZooKeeper. What is written:

    /cluster/id                 as meta.properties says
    /brokers/topics/*           topic id from partition.metadata (the controller gives a fresh one where there is
                                none), partitions 0 to the highest number found, this broker the only replica
    .../partitions/*/state      led by this broker in an epoch above every one seen; numbers without a directory
                                have no such node: they are new partitions
    /config/topics/*            what the coordinators need, cleanup.policy=compact where the cleaner has worked
    /latest_producer_id_block   the block of the highest producer id seen: the next one begins above it
    /controller_epoch           0: no directory holds one, and nobody who would remember one outlives this node

Configuration overrides stand in no directory: defaults apply until they are set again, and the log says so.

Everything is one `submit`, which the embedded store commits as one transaction: a process that dies on the
way leaves an empty store, and the next one begins again. Nothing in a directory is touched.

Runs in: controller, at its start, before `identity` is sent. No state.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from broker.config.kafka_config import KafkaConfig
from controller import controller_election, znodes
from controller.apis.fault import ApiFault
from controller.apis.topic_rules import check_topic_name
from controller.cluster import RECOVERED, LeaderAndIsr, ReplicaAssignment
from controller.log_directories import Claims
from controller.metadata_store.errors import StoreRefusedError, raise_if_error
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create, Request, SetData
from storage.log.survey import TRANSACTION_STATE_TOPIC, DirectorySurvey, PartitionFindings, survey_directory

CONSUMER_OFFSETS_TOPIC = "__consumer_offsets"
WARNINGS_MAX = 20
"""Of one kind; a directory with thousands of damaged partitions says enough with these."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plan:
    """requests: the whole tree, to be submitted at once. infos, warnings: for the log."""

    requests: list[Request] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def rebuild_if_lost(store: MetadataStore, config: KafkaConfig, claims: Claims, broker_id: int,
                          new_cluster_id: Callable[[], str]) -> None:
    """Fill an empty store from directories that hold something; else do nothing.

    StoreRefusedError with what to do when they cannot be read whole.
    """
    if await store.find_data(znodes.CLUSTER_ID) is not None:
        return
    started = time.monotonic()
    try:
        surveys = await trio.to_thread.run_sync(lambda: [survey_directory(path) for path in claims.directories])
    except OSError as error:
        raise _cannot_read(config, error.filename or "a log directory", error.strerror or str(error)) from error
    if not claims.found and not any(survey.partitions for survey in surveys):
        return
    for directory, reason in claims.unreadable.items():
        raise _cannot_read(config, directory, reason)
    await _refuse_leftovers(store, config)
    _log.info("%s holds no metadata: making them anew from %s", config.metadata_path, ", ".join(claims.directories))
    known = claims.cluster_id
    cluster_id = known[0] if known is not None else new_cluster_id()
    plan = make_plan(surveys, cluster_id, broker_id, config)
    source = f"from {known[1]}" if known is not None else "new, for there is no meta.properties"
    plan.infos.insert(0, f"cluster id {cluster_id} ({source}), broker id {broker_id}")
    for outcome in await store.submit(plan.requests):
        raise_if_error(outcome)
    for sentence in plan.infos:
        _log.info("%s", sentence)
    for sentence in plan.warnings:
        _log.warning("%s", sentence)
    _log.info("metadata made anew in %.0f ms", (time.monotonic() - started) * 1000)


def _cannot_read(config: KafkaConfig, directory: str, reason: str) -> StoreRefusedError:
    return StoreRefusedError(config.metadata_path, (
        f"there are no metadata, and they cannot be made anew while {directory} cannot be read ({reason}): its "
        "partitions would be missing from them. Make it readable, or take it out of log.dirs for good, or put "
        "back a copy of the metadata file"))


async def _refuse_leftovers(store: MetadataStore, config: KafkaConfig) -> None:
    if await store.get_children(znodes.TOPICS):
        raise StoreRefusedError(config.metadata_path, (
            "the metadata name topics but no cluster, which no Ottla has written. Put back a copy, or move the "
            "file away to have the metadata made anew from the log directories"))


# What the tree must hold


@dataclass(frozen=True, slots=True)
class _Topic:
    """epochs: by partition number, the leader epoch to begin with."""

    name: str
    topic_id: bytes | None
    epochs: Mapping[int, int]

    @property
    def partition_count(self) -> int:
        return max(self.epochs) + 1


def make_plan(surveys: Sequence[DirectorySurvey], cluster_id: str, broker_id: int, config: KafkaConfig) -> Plan:
    """StoreRefusedError when a partition lies in two directories."""
    plan = Plan()
    topics = _topics(surveys, config, plan)
    for topic in topics:
        plan.requests += _topic_requests(topic, broker_id)
    plan.requests += _config_requests(topics, surveys, config, plan)
    plan.requests.append(Create(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(
        controller_election.FIRST_EPOCH)))
    highest = max((found.producer_id for survey in surveys for found in survey.partitions), default=-1)
    if highest >= 0:
        block = _block_of(broker_id, highest)
        plan.requests.append(SetData(znodes.PRODUCER_ID_BLOCK, znodes.encode_producer_id_block(block)))
        plan.infos.append(f"producer ids begin at {block.block_end + 1}: the highest in use is {highest}")
    plan.requests += [Create("/cluster"), Create(znodes.CLUSTER_ID, znodes.encode_cluster_id(cluster_id))]
    plan.warnings += _capped(problem for survey in surveys for problem in survey.problems)
    if topics:
        plan.warnings.append(
            "configuration overrides of topics, brokers, clients and users are in no log directory and could "
            "not be made anew: defaults apply until they are set again")
    return plan


def _topics(surveys: Sequence[DirectorySurvey], config: KafkaConfig, plan: Plan) -> list[_Topic]:
    by_topic: dict[str, dict[int, PartitionFindings]] = {}
    for survey in surveys:
        for found in survey.partitions:
            other = by_topic.setdefault(found.directory.topic, {}).setdefault(found.directory.partition, found)
            if other is not found:
                raise StoreRefusedError(config.metadata_path, (
                    f"{found.directory.topic}-{found.directory.partition} lies in two log directories: "
                    f"{other.directory.path} and {found.directory.path}. Keep the one with the records that "
                    "count, and move the other one away"))
        stop = "a clean stop" if survey.was_clean else "no clean stop, so its newest batches were read"
        plan.infos.append(f"{survey.path}: {len(survey.partitions)} partitions of "
                          f"{len({found.directory.topic for found in survey.partitions})} topics ({stop})")
    topics = []
    for name in sorted(by_topic):
        try:
            check_topic_name(name)
        except ApiFault as fault:
            plan.warnings.append(f"directories of {name!r} are left alone: {fault.message}")
        else:
            topics.append(_topic(name, by_topic[name], plan))
    without_id = sum(topic.topic_id is None for topic in topics)
    if without_id:
        plan.infos.append(f"{without_id} topics have no partition.metadata and get a new topic id")
    return topics


def _topic(name: str, found: Mapping[int, PartitionFindings], plan: Plan) -> _Topic:
    """The id that most partitions name counts: another one is what a deleted namesake has left."""
    ids = [each.topic_id for each in found.values() if each.topic_id is not None]
    topic_id = max(ids, key=ids.count, default=None)
    strangers = [each.directory.path for each in found.values() if each.topic_id not in (None, topic_id)]
    if strangers:
        plan.warnings.append(f"topic {name!r}: partition.metadata of {', '.join(strangers)} names another topic id "
                             "than the other partitions; what lies there is not opened. Move it away")
    missing = sorted(set(range(max(found))) - found.keys())
    if missing:
        plan.warnings.append(f"topic {name!r}: no log directory holds its partitions "
                             f"{', '.join(map(str, missing))}; they are made anew, empty")
    return _Topic(name, topic_id, {number: each.leader_epoch + 1 for number, each in found.items()})


def _topic_requests(topic: _Topic, broker_id: int) -> list[Request]:
    assignment = ReplicaAssignment((broker_id,))
    topic_node = znodes.encode_topic(znodes.TopicAssignment(
        topic.topic_id, dict.fromkeys(range(topic.partition_count), assignment)))
    requests: list[Request] = [Create(znodes.topic_path(topic.name), topic_node),
                               Create(znodes.partitions_path(topic.name))]
    for number, epoch in sorted(topic.epochs.items()):
        state = LeaderAndIsr(broker_id, epoch, (broker_id,), RECOVERED, 0, controller_election.FIRST_EPOCH)
        requests += [Create(znodes.partition_path(topic.name, number)),
                     Create(znodes.partition_state_path(topic.name, number), znodes.encode_partition_state(state))]
    return requests


def _block_of(broker_id: int, producer_id: int) -> znodes.ProducerIdBlock:
    start = producer_id - producer_id % znodes.PRODUCER_ID_BLOCK_SIZE
    return znodes.ProducerIdBlock(broker_id, start, start + znodes.PRODUCER_ID_BLOCK_SIZE - 1)


# What can be told of the configuration


def _config_requests(topics: Sequence[_Topic], surveys: Sequence[DirectorySurvey], config: KafkaConfig,
                     plan: Plan) -> list[Request]:
    """With the default policy, retention would take what compaction was to keep."""
    internal = _internal_topic_configs(config)
    cleaned = frozenset().union(*(survey.compacted_topics for survey in surveys))
    compacted = sorted(topic.name for topic in topics if topic.name in cleaned and topic.name not in internal)
    if compacted:
        plan.warnings.append("cleanup.policy=compact is set for topics that were compacted "
                             f"(cleaner-offset-checkpoint): {', '.join(compacted)}")
    overrides = {name: {"cleanup.policy": "compact"} for name in compacted}
    overrides |= {topic.name: internal[topic.name] for topic in topics if topic.name in internal}
    return [Create(znodes.config_path(znodes.TOPIC_CONFIGS, name), znodes.encode_config(values))
            for name, values in sorted(overrides.items())]


def _internal_topic_configs(config: KafkaConfig) -> dict[str, dict[str, str]]:
    """What Kafka's coordinators create their topics with."""
    return {
        CONSUMER_OFFSETS_TOPIC: {
            "cleanup.policy": "compact", "compression.type": "producer",
            "segment.bytes": str(config["offsets.topic.segment.bytes"])},
        TRANSACTION_STATE_TOPIC: {
            "cleanup.policy": "compact", "compression.type": "uncompressed",
            "min.insync.replicas": str(config["transaction.state.log.min.isr"]),
            "segment.bytes": str(config["transaction.state.log.segment.bytes"]),
            "unclean.leader.election.enable": "false"},
    }


def _capped(sentences: Iterable[str]) -> list[str]:
    every = list(sentences)
    more = len(every) - WARNINGS_MAX
    return every if more <= 0 else [*every[:WARNINGS_MAX], f"... and {more} more like these"]

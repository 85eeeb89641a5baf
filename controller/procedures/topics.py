"""Topics appear, grow and vanish in the store (PURE).

A topic is created by writing its node, by this controller's CreateTopics as by old tools and other brokers:
either way the watch brings it here, and its partitions get their state nodes and leaders.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller import znodes
from controller.cluster import TopicPartition
from controller.decision import learn
from controller.metadata_store.errors import StoreError
from controller.metadata_store.operations import (
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
    SetData,
)
from controller.procedures.leadership import start_new_partitions
from controller.procedures.runtime import Runtime
from controller.records import PartitionAssigned, Record, TopicAdded, TopicRemoved
from controller.znodes import TopicAssignment

NO_TOPIC_ID = bytes(16)


async def read_topics(runtime: Runtime, topics: list[str]) -> tuple[dict[str, TopicAssignment], list[str]]:
    """Assignments of those that exist and can be read, each with a watch on its data; and what is wrong.

    A topic without id gets one, written to its node, where the inter-broker version has topic ids.
    """
    outcomes = await runtime.read([GetData(znodes.topic_path(topic), watch=True) for topic in topics])
    found: dict[str, TopicAssignment] = {}
    problems: list[str] = []
    for topic, outcome in zip(topics, outcomes, strict=True):
        if isinstance(outcome, GetDataResult):
            try:
                found[topic] = znodes.decode_topic(topic, outcome.data)
            except znodes.ZnodeFormatError as error:
                problems.append(f"topic {topic!r} is left out: {error}")
    if runtime.uses_topic_ids:
        found |= await _give_ids(runtime, {topic: assignment for topic, assignment in found.items()
                                           if assignment.topic_id is None})
    return found, problems


async def _give_ids(runtime: Runtime, without: Mapping[str, TopicAssignment]) -> dict[str, TopicAssignment]:
    given = {topic: TopicAssignment(runtime.new_topic_id(), assignment.partitions)
             for topic, assignment in without.items()}
    if not given:
        return {}
    outcomes = await runtime.write([
        (SetData(znodes.topic_path(topic), znodes.encode_topic(assignment)),)
        for topic, assignment in given.items()])
    return {topic: assignment for (topic, assignment), outcome in zip(given.items(), outcomes, strict=True)
            if not isinstance(outcome, StoreError)}


async def read_overrides(runtime: Runtime, topics: list[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Configuration overrides of those topics that have any; and what is wrong with unreadable ones."""
    paths = [znodes.config_path(znodes.TOPIC_CONFIGS, topic) for topic in topics]
    outcomes = await runtime.read([GetData(path) for path in paths])
    overrides: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for topic, path, outcome in zip(topics, paths, outcomes, strict=True):
        if isinstance(outcome, GetDataResult):
            try:
                config = znodes.decode_config(path, outcome.data)
            except znodes.ZnodeFormatError as error:
                problems.append(f"configuration of topic {topic!r} is left out: {error}")
            else:
                if config:
                    overrides[topic] = config
    return overrides, problems


def topic_records(topic: str, assignment: TopicAssignment) -> list[Record]:
    return [TopicAdded(topic, assignment.topic_id or NO_TOPIC_ID),
            *(PartitionAssigned(TopicPartition(topic, number), replicas)
              for number, replicas in sorted(assignment.partitions.items()))]


async def topics_changed(runtime: Runtime) -> None:
    """Children of `/brokers/topics` changed."""
    state = runtime.state
    (listed,) = await runtime.read([GetChildren(znodes.TOPICS, watch=True)])
    assert isinstance(listed, GetChildrenResult), listed
    new = sorted(set(listed.children) - set(state.topics))
    vanished = sorted(set(state.topics) - set(listed.children))
    found, problems = await read_topics(runtime, new)
    overrides, more_problems = await read_overrides(runtime, sorted(found))
    decision = learn([TopicRemoved(topic) for topic in vanished])
    for topic, assignment in found.items():
        decision.records += topic_records(topic, assignment)
    decision.problems = problems + more_problems
    await runtime.apply(decision)
    runtime.topics_went(vanished)
    if found:
        runtime.configure_topics(overrides)
        await start_new_partitions(runtime, _all_partitions(runtime, found))


def _all_partitions(runtime: Runtime, topics: Iterable[str]) -> list[TopicPartition]:
    return [key for topic in topics for key in runtime.state.partitions_of_topic(topic)]


async def topic_modified(runtime: Runtime, topic: str) -> None:
    """The topic's node was set: partitions were added, by CreatePartitions or by other tools.

    While the topic is being deleted, additions are taken back. Other changes of the assignment are this
    controller's own.
    """
    if topic not in runtime.state.topics:
        return
    found, problems = await read_topics(runtime, [topic])
    decision = learn([])
    decision.problems = problems
    added = {}
    if topic in found:
        known = runtime.state.topics[topic].partitions
        added = {number: replicas for number, replicas in sorted(found[topic].partitions.items())
                 if number not in known}
    if added and topic in runtime.state.topics_to_be_deleted:
        decision.problems.append(f"topic {topic!r} is being deleted, new partitions are taken back")
        await _restore(runtime, topic)
        added = {}
    decision.records += [PartitionAssigned(TopicPartition(topic, number), replicas)
                         for number, replicas in added.items()]
    await runtime.apply(decision)
    if added:
        await start_new_partitions(runtime, [TopicPartition(topic, number) for number in added])


async def _restore(runtime: Runtime, topic: str) -> None:
    known = runtime.state.topics[topic]
    topic_id = known.topic_id if any(known.topic_id) else None
    assignment = TopicAssignment(
        topic_id, {number: partition.assignment for number, partition in known.partitions.items()})
    await runtime.write([(SetData(znodes.topic_path(topic), znodes.encode_topic(assignment)),)])

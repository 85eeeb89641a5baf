"""The end of a story: everything is registered and led, and every broker knows what stands in the tree.

Runs in: the test process.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controller import znodes
from controller.cluster import LeaderAndIsr, TopicPartition
from controller.lease import LeaseState

if TYPE_CHECKING:
    from tests.controller.simulation.node import Node
    from tests.controller.simulation.world import World


def problems(world: World) -> list[str]:
    """What is not yet as it should be; sentences."""
    found = [*_registrations(world), *_leadership(world), *_deletions(world), *_acknowledged(world)]
    leaderships, missing = _leaderships(world)
    found += missing
    for node in world.nodes.values():
        found += _knowledge(world, node, leaderships)
    return found


def _registrations(world: World) -> Iterator[str]:
    for node in world.nodes.values():
        found = world.ensemble.tree.node(znodes.broker_path(node.id))
        if not node.is_registered or found is None:
            yield f"{node.name} is not registered by its session"
        elif node.door.front_end is None or node.door.front_end.broker_epoch != found.czxid:
            yield f"{node.name}'s front end does not know its broker epoch {found.czxid}"


def _leadership(world: World) -> Iterator[str]:
    states = {node.id: node.loop.lease_state for node in world.nodes.values() if node.loop is not None}
    leaders = [node_id for node_id, state in states.items() if state is LeaseState.LEADING]
    others = [node_id for node_id, state in states.items() if state not in (LeaseState.LEADING, LeaseState.STANDBY)]
    if len(leaders) != 1 or others:
        yield f"not one leader and standbys: { {node: state.name for node, state in states.items()} }"
        return
    leader = world.nodes[leaders[0]]
    found = world.ensemble.tree.node(znodes.CONTROLLER)
    if found is None or leader.session is None or found.ephemeral_owner != leader.session.id:
        yield f"{leader.name} leads, but /controller is not its session's"
    epoch = _epoch(world)
    assert leader.loop is not None
    if leader.loop.controller_epoch != epoch:
        yield f"{leader.name} leads with epoch {leader.loop.controller_epoch}, the tree says {epoch}"


def _epoch(world: World) -> int:
    data = world.data(znodes.CONTROLLER_EPOCH)
    return 0 if data is None else znodes.decode_controller_epoch(data)


def _deletions(world: World) -> Iterator[str]:
    for topic in world.ensemble.tree.children(znodes.DELETE_TOPICS):
        yield f"topic {topic} is still to be deleted"


def _acknowledged(world: World) -> Iterator[str]:
    for topic, topic_id in world.acknowledged.items():
        data = world.data(znodes.topic_path(topic))
        if data is None or znodes.decode_topic(topic, data).topic_id != topic_id:
            yield f"topic {topic} was acknowledged and is not there with that id"


def _leaderships(world: World) -> tuple[dict[TopicPartition, tuple[LeaderAndIsr, tuple[int, ...]]], list[str]]:
    """(state, replicas) of each partition; and partitions without a live leader."""
    found: dict[TopicPartition, tuple[LeaderAndIsr, tuple[int, ...]]] = {}
    missing = []
    tree = world.ensemble.tree
    for topic in sorted(tree.children(znodes.TOPICS)):
        for number, replicas in znodes.decode_topic(topic, world.data(znodes.topic_path(topic))).partitions.items():
            key = TopicPartition(topic, number)
            node = tree.node(znodes.partition_state_path(*key))
            if node is None:
                missing.append(f"{key} has no state node")
                continue
            state = znodes.decode_partition_state(key, node.data, node.version)
            if state.leader not in world.nodes:
                missing.append(f"{key} has leader {state.leader}")
            found[key] = state, replicas.replicas
    return found, missing


def _knowledge(world: World, node: Node,
               leaderships: dict[TopicPartition, tuple[LeaderAndIsr, tuple[int, ...]]]) -> Iterator[str]:
    front_end = node.door.front_end
    if front_end is None:
        yield f"{node.name} has no front end"
        return
    if front_end.controller_epoch != _epoch(world):
        yield f"{node.name} knows controller epoch {front_end.controller_epoch}"
    if front_end.live_broker_ids != frozenset(world.nodes):
        yield f"{node.name} was told of brokers {sorted(front_end.live_broker_ids)}"
    for key, (state, replicas) in leaderships.items():
        expected = state.leader, state.leader_epoch, state.partition_epoch
        if front_end.metadata.get(key) != expected:
            yield f"{node.name} knows {key} as {front_end.metadata.get(key)}, the tree says {expected}"
        if node.id in replicas and front_end.partitions.get(key) != expected[:2]:
            yield f"{node.name} has {key} as {front_end.partitions.get(key)}, the tree says {expected[:2]}"
    for topic in sorted({key.topic for key, (_, replicas) in leaderships.items() if node.id in replicas}):
        path = znodes.config_path(znodes.TOPIC_CONFIGS, topic)
        data = world.data(path)
        config = {} if data is None else dict(znodes.decode_config(path, data))
        if front_end.topic_overrides.get(topic, {}) != config:
            yield (f"{node.name} was told overrides {front_end.topic_overrides.get(topic)} of {topic}, "
                   f"the tree says {config}")

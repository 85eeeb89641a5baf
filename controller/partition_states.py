"""The partition state machine: from assigned replicas to a leader, and what is written for it (PURE).

| to | from | done |
|---|---|---|
| New | NonExistent | nothing is written |
| Online | New | first online replica leads, the online ones are in sync; state node created |
| Online | Offline, Online | election (`election`); state node set, guarded by the partition epoch |
| Offline | New, Online, Offline | nothing is written |
| NonExistent | Offline | nothing is written; its topic is being deleted |

An illegal transition is reported as a problem and changes nothing.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import Enum

from controller import election, znodes
from controller.cluster import (
    INITIAL_LEADER_EPOCH,
    INITIAL_PARTITION_EPOCH,
    RECOVERED,
    LeaderAndIsr,
    TopicPartition,
)
from controller.decision import Decision, LeaderAndIsrTarget, Write
from controller.metadata_store.errors import NodeExistsError
from controller.metadata_store.operations import Create, SetData
from controller.records import (
    VALID_PREVIOUS_PARTITION_STATES,
    LeadershipChanged,
    PartitionMoved,
    PartitionState,
)
from controller.state import ControllerState, Partition


class Strategy(Enum):
    OFFLINE = "offline"
    REASSIGN = "reassign"
    PREFERRED = "preferred"
    CONTROLLED_SHUTDOWN = "controlled shutdown"


def decide_moves(state: ControllerState, partitions: Iterable[TopicPartition],
                 target: PartitionState) -> Decision:
    """Transitions that write nothing: to New, Offline and NonExistent."""
    decision = Decision()
    for key in _legal(state, partitions, target, decision.problems):
        decision.records.append(PartitionMoved(key, target))
    return decision


def decide_first_leaders(state: ControllerState, partitions: Iterable[TopicPartition]) -> Decision:
    """New -> Online. Partitions without an online replica stay New."""
    decision = Decision()
    topics_with_node: set[str] = set()
    for key in _legal(state, partitions, PartitionState.ONLINE, decision.problems):
        replicas = state.partition(key).assignment.replicas
        online = state.online_replicas(key, replicas)
        if not online:
            decision.problems.append(f"{key} gets no leader: none of its replicas {list(replicas)} is alive")
            continue
        if key.topic not in topics_with_node:
            topics_with_node.add(key.topic)
            decision.writes.append(_directory(znodes.partitions_path(key.topic)))
        decision.writes.append(_directory(znodes.partition_path(*key)))
        leader_and_isr = LeaderAndIsr(online[0], INITIAL_LEADER_EPOCH, online, RECOVERED,
                                      INITIAL_PARTITION_EPOCH, state.epoch)
        decision.writes.append(Write(
            (Create(znodes.partition_state_path(*key), znodes.encode_partition_state(leader_and_isr)),),
            (LeadershipChanged(key, leader_and_isr), PartitionMoved(key, PartitionState.ONLINE)),
            (LeaderAndIsrTarget(key, online, is_new=True),), partition=key))
    return decision


def _directory(path: str) -> Write:
    return Write((Create(path),), tolerated=(NodeExistsError,))


def decide_elections(state: ControllerState, partitions: Iterable[TopicPartition], strategy: Strategy,
                     unclean_allowed: Callable[[str], bool], *,
                     recovery_state_supported: bool = True) -> Decision:
    """Online, Offline -> Online. unclean_allowed: by topic; asked only when nobody in sync is alive."""
    decision = Decision()
    for key in _legal(state, partitions, PartitionState.ONLINE, decision.problems):
        partition = state.partition(key)
        current = partition.leader_and_isr
        if current is None or current.controller_epoch > state.epoch:
            decision.problems.append(
                f"{key} gets no leader: its state node is missing or written by a newer controller")
            continue
        elected, recipients = _elect(state, key, partition, current, strategy, unclean_allowed)
        if elected is None:
            decision.problems.append(f"{key} gets no leader by strategy {strategy.value}: "
                                     f"replicas {list(partition.assignment.replicas)}, "
                                     f"in sync {list(current.isr)}, alive {list(state.live_broker_ids())}")
            continue
        if not recovery_state_supported:
            elected = replace(elected, leader_recovery_state=RECOVERED)
        decision.writes.append(state_write(state, key, current, elected, recipients,
                                           (PartitionMoved(key, PartitionState.ONLINE),)))
    return decision


def _elect(state: ControllerState, key: TopicPartition, partition: Partition, current: LeaderAndIsr,
           strategy: Strategy,
           unclean_allowed: Callable[[str], bool]) -> tuple[LeaderAndIsr | None, tuple[int, ...]]:
    """The new leadership and the replicas to be told of it."""
    assignment = partition.assignment
    online = state.online_replicas(key, assignment.replicas)
    match strategy:
        case Strategy.OFFLINE:
            nobody_in_sync = not any(replica in online for replica in current.isr)
            unclean = nobody_in_sync and unclean_allowed(key.topic)
            return election.elect_offline(current, assignment, online, unclean_allowed=unclean), online
        case Strategy.REASSIGN:
            return election.elect_reassign(current, assignment, online), assignment.target_replicas
        case Strategy.PREFERRED:
            return election.elect_preferred(current, assignment, online), assignment.replicas
        case Strategy.CONTROLLED_SHUTDOWN:
            alive = state.alive_replicas(key, assignment.replicas)
            return election.elect_controlled_shutdown(current, assignment, alive, state.shutting_down), alive


def state_write(state: ControllerState, key: TopicPartition, current: LeaderAndIsr, wanted: LeaderAndIsr,
                recipients: tuple[int, ...], records: tuple[PartitionMoved, ...] = ()) -> Write:
    """Set the state node if it is still `current`, and tell the recipients."""
    written = replace(wanted, partition_epoch=current.partition_epoch + 1, controller_epoch=state.epoch)
    return Write(
        (SetData(znodes.partition_state_path(*key), znodes.encode_partition_state(written),
                 current.partition_epoch),),
        (LeadershipChanged(key, written), *records),
        (LeaderAndIsrTarget(key, recipients),),
        partition=key)


def _legal(state: ControllerState, partitions: Iterable[TopicPartition], target: PartitionState,
           problems: list[str]) -> Iterator[TopicPartition]:
    for key in partitions:
        before = state.partition(key).state
        if before in VALID_PREVIOUS_PARTITION_STATES[target]:
            yield key
        else:
            problems.append(f"{key} cannot go from {before.value} to {target.value}")

"""The replica state machine: what each replica's broker is told, and its place in the in-sync set (PURE).

| to | from | done |
|---|---|---|
| New | NonExistent | LeaderAndIsr(new) if the partition has a leader |
| Online | New | nothing: the first leadership has told it |
| Online | Online, Offline, DeletionIneligible | LeaderAndIsr if the partition has a leader |
| Offline | New, Online, Offline, DeletionIneligible | StopReplica(keep); no more in sync, others told |
| DeletionStarted | Offline | StopReplica(delete) |
| DeletionSuccessful, DeletionIneligible, NonExistent | see `records` | nothing |

An illegal transition is reported as a problem and changes nothing.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller import election
from controller.cluster import NO_LEADER, PartitionReplica
from controller.decision import Decision, LeaderAndIsrTarget, StopReplicaTarget, Write
from controller.partition_states import state_write
from controller.records import VALID_PREVIOUS_REPLICA_STATES, ReplicaMoved, ReplicaState
from controller.state import ControllerState


def decide_moves(state: ControllerState, replicas: Iterable[PartitionReplica],
                 target: ReplicaState) -> Decision:
    """Every transition but the one to Offline."""
    decision = Decision()
    for replica in _legal(state, replicas, target, decision.problems):
        if target in (ReplicaState.NEW, ReplicaState.ONLINE):
            _start(state, replica, target, decision)
        elif target is ReplicaState.DELETION_STARTED:
            decision.stop_replica.append(
                StopReplicaTarget(replica.topic_partition, replica.broker_id, delete=True))
        decision.records.append(ReplicaMoved(replica, target))
    return decision


def _start(state: ControllerState, replica: PartitionReplica, target: ReplicaState,
           decision: Decision) -> None:
    if target is ReplicaState.ONLINE and state.replica_state(replica) is ReplicaState.NEW:
        return
    if state.partition(replica.topic_partition).leader_and_isr is not None:
        decision.leader_and_isr.append(LeaderAndIsrTarget(
            replica.topic_partition, (replica.broker_id,), is_new=target is ReplicaState.NEW))


def decide_offline(state: ControllerState, broker_id: int, replicas: Iterable[PartitionReplica]) -> Decision:
    """To Offline, for replicas of one broker: two brokers' replicas of a partition are two changes of its
    in-sync set, one after the other.

    Topics that are being deleted keep their state node as it is: it goes in a moment.
    """
    decision = Decision()
    for replica in _legal(state, replicas, ReplicaState.OFFLINE, decision.problems):
        assert replica.broker_id == broker_id
        key = replica.topic_partition
        partition = state.partition(key)
        current = partition.leader_and_isr
        decision.stop_replica.append(StopReplicaTarget(key, broker_id, delete=False))
        decision.records.append(ReplicaMoved(replica, ReplicaState.OFFLINE))
        if current is None:
            decision.update_metadata.append(key)
            decision.update_metadata_broker_ids.update(state.live_broker_ids())
        elif key.topic not in state.topics_to_be_deleted:
            others = tuple(other for other in partition.assignment.replicas if other != broker_id)
            if broker_id in current.isr:
                decision.writes.append(_removal(state, replica, others))
            else:
                decision.leader_and_isr.append(LeaderAndIsrTarget(key, others))
    return decision


def _removal(state: ControllerState, replica: PartitionReplica, others: tuple[int, ...]) -> Write:
    key = replica.topic_partition
    current = state.partition(key).leader_and_isr
    assert current is not None
    return state_write(state, key, current, election.without_replica(current, replica.broker_id, NO_LEADER),
                       others)


def _legal(state: ControllerState, replicas: Iterable[PartitionReplica], target: ReplicaState,
           problems: list[str]) -> Iterator[PartitionReplica]:
    for replica in replicas:
        before = state.replica_state(replica)
        if before in VALID_PREVIOUS_REPLICA_STATES[target]:
            yield replica
        else:
            problems.append(f"{replica} cannot go from {before.value} to {target.value}")

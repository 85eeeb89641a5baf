"""Who leads a partition next: Kafka's election rules (PURE).

| strategy | leader | new in-sync set |
|---|---|---|
| offline | first assigned replica that is online and in sync | in-sync ones that are online |
| offline, unclean | as above, else the first assigned one that is online | that leader alone, RECOVERING |
| reassign | first target replica that is online and in sync | unchanged |
| preferred | the head of the assignment if it is online and in sync | unchanged |
| controlled shutdown | first assigned one online, in sync, not shutting down | without those shutting down |

Every election raises the leader epoch by one. Nobody electable: None, the partition stays as it is.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from controller.cluster import RECOVERING, LeaderAndIsr, ReplicaAssignment


def elect_offline(current: LeaderAndIsr, assignment: ReplicaAssignment, online: Collection[int], *,
                  unclean_allowed: bool) -> LeaderAndIsr | None:
    """online: assigned replicas that are alive."""
    leader = _first(assignment.replicas, online, current.isr)
    if leader is not None:
        return _led_by(current, leader, tuple(replica for replica in current.isr if replica in online))
    if not unclean_allowed:
        return None
    leader = next((replica for replica in assignment.replicas if replica in online), None)
    if leader is None:
        return None
    return replace(_led_by(current, leader, (leader,)), leader_recovery_state=RECOVERING)


def elect_reassign(current: LeaderAndIsr, assignment: ReplicaAssignment,
                   online: Collection[int]) -> LeaderAndIsr | None:
    leader = _first(assignment.target_replicas, online, current.isr)
    return None if leader is None else _led_by(current, leader, current.isr)


def elect_preferred(current: LeaderAndIsr, assignment: ReplicaAssignment,
                    online: Collection[int]) -> LeaderAndIsr | None:
    leader = _first(assignment.replicas[:1], online, current.isr)
    return None if leader is None else _led_by(current, leader, current.isr)


def elect_controlled_shutdown(current: LeaderAndIsr, assignment: ReplicaAssignment, online: Collection[int],
                              shutting_down: Collection[int]) -> LeaderAndIsr | None:
    """online: those shutting down included."""
    staying = [replica for replica in assignment.replicas if replica not in shutting_down]
    leader = _first(staying, online, current.isr)
    if leader is None:
        return None
    return _led_by(current, leader, tuple(replica for replica in current.isr if replica not in shutting_down))


def without_replica(current: LeaderAndIsr, replica: int, no_leader: int) -> LeaderAndIsr:
    """The replica went away: out of the in-sync set, unless it is the last that ever was in sync, and leader
    no more. The epoch rises either way, so that the leader learns of it."""
    isr = current.isr
    if len(isr) > 1:
        isr = tuple(member for member in isr if member != replica)
    return _led_by(current, no_leader if current.leader == replica else current.leader, isr)


def _first(candidates: Sequence[int], online: Collection[int], isr: Collection[int]) -> int | None:
    return next((replica for replica in candidates if replica in online and replica in isr), None)


def _led_by(current: LeaderAndIsr, leader: int, isr: tuple[int, ...]) -> LeaderAndIsr:
    return replace(current, leader=leader, leader_epoch=current.leader_epoch + 1, isr=isr)

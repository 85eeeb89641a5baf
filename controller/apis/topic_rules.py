"""Rules for the names and the assignments of topics that a client wants (PURE)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.protocol.errors import ErrorCode
from broker.protocol.topic_names import TOPIC_NAME_LENGTH_MAX, is_valid_topic_name
from controller.apis.fault import ApiFault

CLUSTER_METADATA_TOPIC = "__cluster_metadata"


PARTITION_COUNT_MAX = 1 << 16
"""Of one topic: what one log directory has slots for. Kafka states no limit and dies of the memory."""


def check_partition_count(count: int) -> None:
    """Refuse what no broker could hold, before anything is laid out for it."""
    if count > PARTITION_COUNT_MAX:
        raise ApiFault(ErrorCode.INVALID_PARTITIONS,
                       f"{count} partitions are more than the {PARTITION_COUNT_MAX} that a topic may have.")


def check_topic_name(name: str) -> None:
    """INVALID_TOPIC_EXCEPTION unless the name is one."""
    if is_valid_topic_name(name):
        return
    raise ApiFault(ErrorCode.INVALID_TOPIC_EXCEPTION, (
        f"Topic name {name[:TOPIC_NAME_LENGTH_MAX + 1]!r} is not allowed: a name has 1 to "
        f"{TOPIC_NAME_LENGTH_MAX} of ASCII letters, digits, '.', '_' and '-', and is neither '.' nor '..'."))


def may_collide(name: str) -> bool:
    """Metrics turn '.' into '_': only names with one of them can collide."""
    return "." in name or "_" in name


def unified(name: str) -> str:
    """The name as metrics show it."""
    return name.replace(".", "_")


def check_collision(name: str, taken: Mapping[str, str]) -> None:
    """INVALID_TOPIC_EXCEPTION if another topic differs only in '.' and '_'. taken: by unified name."""
    other = taken.get(unified(name), name)
    if other != name:
        raise ApiFault(ErrorCode.INVALID_TOPIC_EXCEPTION, (
            f"Topic '{name}' differs from '{other}' only in '.' and '_', which metrics cannot tell apart."))


def check_manual_assignment(assignment: Mapping[int, Sequence[int]]) -> None:
    """INVALID_REPLICA_ASSIGNMENT unless partitions are numbered from 0 without gaps and all have the same
    number of distinct replicas. Brokers that do not exist are accepted, as Kafka does here."""
    if len({len(replicas) for replicas in assignment.values()}) != 1:
        raise _bad_assignment("every partition needs the same number of replicas")
    if any(len(set(replicas)) < len(replicas) for replicas in assignment.values()):
        raise _bad_assignment("a partition names a broker twice")
    if set(assignment) != set(range(len(assignment))):
        raise _bad_assignment("partitions must be numbered from 0 without gaps")


def _bad_assignment(what: str) -> ApiFault:
    return ApiFault(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The replica assignment is not valid: {what}.")

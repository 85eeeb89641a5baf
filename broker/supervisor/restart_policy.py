"""Whether and when a dead process is started again: a table, and one function over it.

Runs in: supervisor. PURE: the times of earlier deaths are the argument.

Two causes are not held against a process. A clean exit nobody asked for is treated as a fault, but a
SIGKILL from outside (an operator, a crash test) says nothing about the code: it is restarted at once and
does not count, neither here nor for the quarantine of a partition. The kernel's memory killer counts: a
batch that makes storage eat all memory must not take the directory down again and again.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from broker.supervisor.events import DeathCause, Role

FORK_RETRY_MS = 1000
"""After a fork that the system refused: short of memory or processes, it gets no storm of attempts."""
SLOT_DEATHS_MAX = 2
"""So many deaths while working on one slot quarantine its partition: once can be chance."""


class Exhausted(Enum):
    """What follows when a process dies too often."""

    STOP_NODE = auto()
    DIRECTORY_OFFLINE = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class Policy:
    """delays_ms[n]: wait before the restart after n counted deaths in the window (the last one repeats).
    deaths_max: with so many counted deaths in window_ms, `when_exhausted` follows."""

    delays_ms: tuple[int, ...]
    deaths_max: int
    window_ms: int
    when_exhausted: Exhausted


POLICIES = {
    Role.STORAGE: Policy((0,), 5, 60_000, Exhausted.DIRECTORY_OFFLINE),
    Role.FRONT_END: Policy((0, 0, 200, 1000, 3000), 5, 60_000, Exhausted.STOP_NODE),
    Role.CONTROLLER: Policy((0, 0, 200, 1000, 3000), 5, 60_000, Exhausted.STOP_NODE),
    Role.HELPER: Policy((0,), 0, 0, Exhausted.NOTHING),
}


@dataclass(frozen=True)
class RestartAfter:
    delay_ms: int


def counts(cause: DeathCause) -> bool:
    """Whether a death is held against the process and the slot it worked on."""
    return cause not in (DeathCause.KILLED_FROM_OUTSIDE, DeathCause.NOT_FORKED)


def decide_restart(
    role: Role, cause: DeathCause, counted_deaths_ms: Sequence[int], now_ms: int
) -> RestartAfter | Exhausted:
    """counted_deaths_ms: times of the deaths that count, this one included if it does."""
    policy = POLICIES[role]
    if cause is DeathCause.NOT_FORKED:
        return RestartAfter(FORK_RETRY_MS)
    if policy.when_exhausted is Exhausted.NOTHING:
        return Exhausted.NOTHING
    recent = sum(1 for death_ms in counted_deaths_ms if now_ms - death_ms < policy.window_ms)
    if recent >= policy.deaths_max:
        return policy.when_exhausted
    return RestartAfter(policy.delays_ms[min(recent, len(policy.delays_ms) - 1)])

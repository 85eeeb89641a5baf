"""What the supervisor knows of each process: states, which message is legal in which state, the records.

Runs in: supervisor. PURE. Owned and changed by lifecycle.py alone.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from broker.supervisor.events import Role


class Phase(Enum):
    STARTING = auto()
    """Until the first `accept`."""
    RUNNING = auto()
    STOPPING = auto()
    ENDED = auto()


class State(Enum):
    DOWN = auto()
    """Not running: not yet forked, waiting for a restart, or ended for good while the node stops."""
    STARTING = auto()
    """Controller until `identity`, storage until `loaded`, front end until `ready`."""
    UP = auto()
    """Controller identified; storage loaded; front end ready but not accepting."""
    ACCEPTING = auto()
    """Front end only."""
    FAILING = auto()
    """Storage only: it said `offline` and is about to exit."""
    STRANDED = auto()
    """Storage only: dead, the front end is still taking over its completions."""
    OFFLINE = auto()
    """Storage only: no process any more for this directory."""


ALIVE = frozenset({State.STARTING, State.UP, State.ACCEPTING, State.FAILING})

LEGAL_MESSAGES: dict[Role, dict[str, frozenset[State]]] = {
    Role.CONTROLLER: {
        "identity": frozenset({State.STARTING}),
        "registered": frozenset({State.UP}),
        "session": frozenset({State.STARTING, State.UP}),
        "failed": frozenset({State.STARTING, State.UP}),
        "stopped": frozenset({State.STARTING, State.UP}),
    },
    Role.STORAGE: {
        "progress": frozenset({State.STARTING, State.UP}),
        "loaded": frozenset({State.STARTING}),
        "drained": frozenset({State.UP}),
        "helper_wanted": frozenset({State.STARTING, State.UP}),
        "offline": frozenset({State.STARTING, State.UP}),
        "failed": frozenset({State.STARTING, State.UP}),
        "stopped": frozenset({State.STARTING, State.UP}),
    },
    Role.FRONT_END: {
        "ready": frozenset({State.STARTING}),
        "progress": frozenset({State.UP, State.ACCEPTING}),
        "taken_over": frozenset({State.STARTING, State.UP, State.ACCEPTING}),
        "helper_wanted": frozenset({State.STARTING, State.UP, State.ACCEPTING}),
        "register_anew": frozenset({State.UP, State.ACCEPTING}),
        "failed": frozenset({State.STARTING}),
        "stopped": frozenset({State.STARTING, State.UP, State.ACCEPTING}),
    },
    Role.HELPER: {},
}
"""A message that is not in the table, or comes in another state, is a bug of its sender: it is killed."""


class BadMessageError(Exception):
    """A child sent what the table or a field's type forbids."""


def check_message(role: Role, state: State, message: dict[str, Any]) -> None:
    """BadMessageError unless a process of that role may send this now."""
    kind = message["kind"]
    if state not in LEGAL_MESSAGES[role].get(kind, frozenset()):
        raise BadMessageError(f"sent {kind!r} while {state.name.lower()}")


def text_field(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise BadMessageError(f"{message['kind']!r} with {name}={value!r}")
    return value


def int_field(message: dict[str, Any], name: str) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadMessageError(f"{message['kind']!r} with {name}={value!r}")
    return value


@dataclass
class ControllerRecord:
    """registrations_unanswered: `register` and `front_end_restarted` sent to this incarnation.
    knows_front_end: it was sent one of them for the front end that runs."""

    state: State = State.DOWN
    session: dict[str, Any] = field(default_factory=dict)
    counted_deaths_ms: list[int] = field(default_factory=list)
    registrations_unanswered: int = 0
    knows_front_end: bool = False


@dataclass
class FrontEndRecord:
    """broker_epoch: the one this incarnation accepted with or will; None until registered.
    incarnation: counts forks, the first is 1."""

    state: State = State.DOWN
    counted_deaths_ms: list[int] = field(default_factory=list)
    incarnation: int = 0
    broker_epoch: int | None = None


@dataclass
class StorageRecord:
    """attached: a living front end was given this generation of the link.
    draining: it was asked to drain after the front end's death and has not answered.
    fatal_reason: it said `offline`, or died too often.
    restart_delay_ms: before its next fork."""

    index: int
    directory: str
    state: State = State.DOWN
    generation: int = 1
    ever_loaded: bool = False
    attached: bool = False
    draining: bool = False
    fatal_reason: str | None = None
    restart_delay_ms: int = 0
    counted_deaths_ms: list[int] = field(default_factory=list)
    slot_deaths: dict[tuple[int, int], int] = field(default_factory=dict)
    quarantined: tuple[tuple[int, int], ...] = ()

    @property
    def usable(self) -> bool:
        return self.state is not State.OFFLINE

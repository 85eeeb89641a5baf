"""What happens to the supervisor, and what it does: events in, actions out, both plain data.

Runs in: supervisor. PURE. Made by node.py (events) and lifecycle.py (actions).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class Role(Enum):
    CONTROLLER = "controller"
    FRONT_END = "front end"
    STORAGE = "storage"
    HELPER = "helper"


@dataclass(frozen=True)
class ProcessId:
    """A place in the tree, not an incarnation.

    index: of log.dirs for storage, a running number for helpers, else 0.
    """

    role: Role
    index: int = 0

    def __str__(self) -> str:
        numbered = self.role in (Role.STORAGE, Role.HELPER)
        return f"{self.role.value} {self.index}" if numbered else self.role.value


CONTROLLER = ProcessId(Role.CONTROLLER)
FRONT_END = ProcessId(Role.FRONT_END)


def storage(index: int) -> ProcessId:
    return ProcessId(Role.STORAGE, index)


class DeathCause(Enum):
    """Why a process ended, as far as its restart is concerned."""

    EXIT_CLEAN = auto()
    """Exit code 0."""
    FAULT = auto()
    """Another exit code, or a signal that a process brings on itself."""
    OUT_OF_MEMORY = auto()
    """SIGKILL while the kernel's count of memory kills rose."""
    KILLED_FROM_OUTSIDE = auto()
    """SIGKILL by somebody else: the code is not to blame, nothing is held against it."""
    HUNG = auto()
    """SIGKILL by the supervisor, because an answer did not come."""
    NOT_FORKED = auto()
    """The system had no process or memory for it; tried again until it has."""


# Events


@dataclass(frozen=True)
class Begin:
    """Locks, sockets and shared objects are there."""


@dataclass(frozen=True)
class MessageReceived:
    process: ProcessId
    message: dict[str, Any]


@dataclass(frozen=True)
class ProcessDied:
    """Comes after every message of the process. working_slot: (slot, its generation), storage only."""

    process: ProcessId
    cause: DeathCause
    detail: str
    working_slot: tuple[int, int] | None = None


@dataclass(frozen=True)
class StopRequested:
    why: str


@dataclass(frozen=True)
class DeadlinePassed:
    """Some deadline of `Lifecycle.next_deadline_ms()` is due."""


Event = Begin | MessageReceived | ProcessDied | StopRequested | DeadlinePassed


# Actions


@dataclass(frozen=True)
class ForkController:
    session: dict[str, Any]


@dataclass(frozen=True)
class ForkStorage:
    index: int
    generation: int
    cluster_id: str
    broker_id: int
    restarted: bool
    quarantined: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ForkFrontEnd:
    """online: indices of the storage processes that are loaded; offline: of directories without one."""

    cluster_id: str
    broker_id: int
    restarted: bool
    online: frozenset[int]
    offline: frozenset[int]


@dataclass(frozen=True)
class ForkHelper:
    helper: ProcessId
    requester: ProcessId
    purpose: str


@dataclass(frozen=True)
class ResetLink:
    """Begin a generation of a link: empty rings, fresh doorbells, no stale datagrams."""

    index: int
    generation: int


class Attachment(Enum):
    """Descriptors that go with a message."""

    NONE = auto()
    DOORBELLS = auto()
    """Of the link `link_index`: submissions, completions."""
    STREAMS = auto()
    """The receiver's two ends of the fresh streams between controller and front end: own requests first."""


@dataclass(frozen=True)
class Send:
    process: ProcessId
    message: dict[str, Any]
    attachment: Attachment = Attachment.NONE
    link_index: int = -1


@dataclass(frozen=True)
class Kill:
    """SIGKILL; its death follows as an event with cause HUNG."""

    process: ProcessId


class Notice(Enum):
    """For the service manager."""

    READY = auto()
    STATUS = auto()
    STOPPING = auto()
    EXTEND = auto()


@dataclass(frozen=True)
class Notify:
    notice: Notice
    text: str = ""


@dataclass(frozen=True)
class AnnounceReady:
    """Print the operator's lines: what runs where."""


class Level(Enum):
    INFO = auto()
    WARN = auto()
    ERROR = auto()


@dataclass(frozen=True)
class Say:
    level: Level
    text: str


@dataclass(frozen=True)
class Exit:
    code: int


Action = (
    ForkController | ForkStorage | ForkFrontEnd | ForkHelper | ResetLink | Send | Kill | Notify
    | AnnounceReady | Say | Exit
)


@dataclass
class Outbox:
    """Actions in the order in which they must be done."""

    actions: list[Action] = field(default_factory=list)

    def add(self, action: Action) -> None:
        self.actions.append(action)

    def take(self) -> list[Action]:
        taken, self.actions = self.actions, []
        return taken

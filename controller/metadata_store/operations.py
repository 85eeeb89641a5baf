"""ZooKeeper's plain operations as data, and what they answer.

Only what every ZooKeeper server since 3.4, and ClickHouse Keeper, can do: no persistent watches, no TTL
nodes, no containers. A version of -1 matches any version. Data may be None, which is not the same as b"".

Runs in: controller. Pure data.
"""
from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from controller.metadata_store.errors import StoreError

ANY_VERSION = -1


class Stat(NamedTuple):
    """What is known of a node besides its data. Times are milliseconds since the epoch, 0 owner = persistent.

    czxid, mzxid, pzxid: transactions that created the node, last set its data, last changed its children.
    cversion: changes of the children, creations and deletions alike (as ZooKeeper shows it; the number that
    names sequential nodes counts creations only and is not shown).
    """

    czxid: int
    mzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    cversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


@dataclass(frozen=True, slots=True)
class Create:
    """Sequential: ten digits, the number of children ever created under the parent, are added to the path."""

    path: str
    data: bytes | None = None
    ephemeral: bool = False
    sequential: bool = False


@dataclass(frozen=True, slots=True)
class SetData:
    path: str
    data: bytes | None
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Delete:
    path: str
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Check:
    """Only inside a multi: fails it unless the node has this version."""

    path: str
    version: int


Operation = Create | SetData | Delete | Check


@dataclass(frozen=True, slots=True)
class Multi:
    """All or nothing; each operation sees the effect of those before it."""

    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """With watch: fires when the node is created, deleted or its data set, also if it does not exist yet."""

    path: str
    watch: bool = False


@dataclass(frozen=True, slots=True)
class GetData:
    """With watch: fires when the data is set or the node deleted. No watch is left on a missing node."""

    path: str
    watch: bool = False


@dataclass(frozen=True, slots=True)
class GetChildren:
    """With watch: fires when a child comes or goes or the node is deleted. No watch on a missing node."""

    path: str
    watch: bool = False


Read = Exists | GetData | GetChildren
Request = Create | SetData | Delete | Multi | Exists | GetData | GetChildren


@dataclass(frozen=True, slots=True)
class CreateResult:
    """path: as created, with the digits of a sequential node."""

    path: str


@dataclass(frozen=True, slots=True)
class SetDataResult:
    stat: Stat


@dataclass(frozen=True, slots=True)
class DeleteResult:
    pass


@dataclass(frozen=True, slots=True)
class CheckResult:
    pass


@dataclass(frozen=True, slots=True)
class MultiResult:
    """One result per operation, in order."""

    results: tuple[OperationResult, ...]


@dataclass(frozen=True, slots=True)
class ExistsResult:
    """stat: None when there is no such node (not an error)."""

    stat: Stat | None


@dataclass(frozen=True, slots=True)
class GetDataResult:
    data: bytes | None
    stat: Stat


@dataclass(frozen=True, slots=True)
class GetChildrenResult:
    """children: names without the path, in no promised order."""

    children: tuple[str, ...]
    stat: Stat


OperationResult = CreateResult | SetDataResult | DeleteResult | CheckResult
Result = OperationResult | MultiResult | ExistsResult | GetDataResult | GetChildrenResult
Outcome = Result | StoreError


class EventType(Enum):
    """SESSION: `WatchEvent.state` changed; the others are ZooKeeper's node events."""

    NODE_CREATED = "created"
    NODE_DELETED = "deleted"
    NODE_DATA_CHANGED = "data changed"
    NODE_CHILDREN_CHANGED = "children changed"
    SESSION = "session"


class SessionState(Enum):
    """SUSPENDED: no connection, the session may still live. EXPIRED: over for good."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: EventType
    path: str
    state: SessionState = SessionState.CONNECTED


@dataclass(frozen=True, slots=True)
class SessionId:
    """What resumes a session from another process of the same node. password: 16 bytes."""

    id: int
    password: bytes

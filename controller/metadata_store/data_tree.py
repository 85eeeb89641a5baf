"""ZooKeeper's data tree: nodes, sessions' ephemeral nodes, versions and multi, without any I/O (PURE).

Decide, then replay: a `Draft` executes requests on top of a `DataTree` and keeps what would change; the tree
itself changes only in `DataTree.replay`, with the same rows that are kept on disk and read back at start.
So a batch whose commit fails leaves no trace, and a simulated ZooKeeper for tests is this same code.

Semantics are those of ZooKeeper 3.8 (tests/controller/metadata_store/conformance.py names each):
- the digits of a sequential node count the creations under its parent, deletions do not count;
- `Stat.cversion` as shown is 2 x creations - children, so it also moves on deletions;
- a failed multi changes nothing, and says of each operation whether it came before, at or after the cause;
- creation fires node watches of the path, then child watches of the parent; deletion fires the node's
  watches once per watcher, then child watches of the parent.

Runs in: controller, tests. Owner: whoever made the tree; not shared between tasks while a draft is open.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.metadata_store.errors import (
    BadArgumentsError,
    BadVersionError,
    MultiError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistencyError,
    StoreError,
)
from controller.metadata_store.operations import (
    ANY_VERSION,
    Check,
    CheckResult,
    Create,
    CreateResult,
    Delete,
    DeleteResult,
    EventType,
    Exists,
    ExistsResult,
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
    Multi,
    MultiResult,
    Operation,
    OperationResult,
    Outcome,
    Read,
    Request,
    SetData,
    SetDataResult,
    Stat,
)

_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")
_EMPTY: frozenset[str] = frozenset()


class Node(NamedTuple):
    """One node; immutable, replaced on change. creations: children ever created under it."""

    data: bytes | None
    czxid: int
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    creations: int
    ephemeral_owner: int


class Change(NamedTuple):
    """What became of one path; node None = deleted."""

    path: str
    node: Node | None


class Trigger(NamedTuple):
    """Watches of this kind on this path fire."""

    type: EventType
    path: str


class WatchArmed(NamedTuple):
    """A read left a watch. children: a child watch, else a node watch."""

    path: str
    children: bool


_ROOT = Node(None, 0, 0, 0, 0, 0, 0, 0, 0)


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def check_path(path: str, *, sequential: bool = False) -> None:
    """BadArgumentsError unless a ZooKeeper client would send the path. A sequential one may end with '/'."""
    if path == "/" and not sequential:
        return
    checked = path + "1" if sequential else path
    if not checked.startswith("/") or checked.endswith("/"):
        raise BadArgumentsError(path, "a path starts with '/' and does not end with it")
    if any(part in ("", ".", "..") for part in checked[1:].split("/")):
        raise BadArgumentsError(path, "empty, '.' and '..' are not names of nodes")
    if _BAD_CHARACTERS.search(checked):
        raise BadArgumentsError(path, "the path holds a character that ZooKeeper refuses")


class DataTree:
    """The committed nodes. `replay` is the only mutator."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {"/": _ROOT}
        self._children: dict[str, set[str]] = {}
        self._ephemerals: dict[int, set[str]] = {}
        self.last_zxid = 0

    def node(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def children(self, path: str) -> Iterable[str]:
        return self._children.get(path, _EMPTY)

    def child_count(self, path: str) -> int:
        return len(self._children.get(path, _EMPTY))

    def ephemerals_of(self, session_id: int) -> frozenset[str]:
        return frozenset(self._ephemerals.get(session_id, _EMPTY))

    def sessions_with_ephemerals(self) -> tuple[int, ...]:
        return tuple(self._ephemerals)

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Every node but the order is not promised."""
        return iter(self._nodes.items())

    def replay(self, change: Change) -> None:
        path, node = change
        before = self._nodes.get(path)
        if before is not None and (node is None or node.czxid != before.czxid):
            self._forget(path, before)
            before = None
        if node is None:
            return
        self._nodes[path] = node
        if node.mzxid > self.last_zxid or node.pzxid > self.last_zxid:
            self.last_zxid = max(node.mzxid, node.pzxid)
        if before is None and path != "/":
            parent, _, name = path.rpartition("/")
            self._children.setdefault(parent or "/", set()).add(name)
            if node.ephemeral_owner:
                self._ephemerals.setdefault(node.ephemeral_owner, set()).add(path)

    def _forget(self, path: str, node: Node) -> None:
        del self._nodes[path]
        self._children.pop(path, None)
        parent, _, name = path.rpartition("/")
        siblings = self._children.get(parent or "/")
        if siblings is not None:
            siblings.discard(name)
            if not siblings:
                del self._children[parent or "/"]
        owned = self._ephemerals.get(node.ephemeral_owner)
        if owned is not None:
            owned.discard(path)
            if not owned:
                del self._ephemerals[node.ephemeral_owner]


class Draft:
    """Requests of one batch executed on top of a tree (or of an outer draft, inside a multi).

    `effects` holds triggers and armed watches in the order in which they happened: they take place after
    the changes are committed.
    """

    def __init__(self, base: DataTree | Draft, session_id: int, now_ms: int) -> None:
        self._base = base
        self._session_id = session_id
        self._now_ms = now_ms
        self._nodes: dict[str, Node | None] = {}
        self._added: dict[str, set[str]] = {}
        self._removed: dict[str, set[str]] = {}
        self.last_zxid: int = base.last_zxid
        self.effects: list[Trigger | WatchArmed] = []

    # Reading through to the base.

    def node(self, path: str) -> Node | None:
        if path in self._nodes:
            return self._nodes[path]
        return self._base.node(path)

    def children(self, path: str) -> Iterable[str]:
        added, removed = self._added.get(path, _EMPTY), self._removed.get(path, _EMPTY)
        if not added and not removed:
            return self._base.children(path)
        return (set(self._base.children(path)) - removed) | added

    def child_count(self, path: str) -> int:
        count = self._base.child_count(path)
        return count + len(self._added.get(path, _EMPTY)) - len(self._removed.get(path, _EMPTY))

    def _existing(self, path: str) -> Node:
        """Only a path that is not found has to be looked at for faults."""
        node = self.node(path)
        if node is None:
            check_path(path)
            raise NoNodeError(path, "no such node")
        return node

    def stat(self, path: str, node: Node) -> Stat:
        children = self.child_count(path)
        return Stat(node.czxid, node.mzxid, node.ctime_ms, node.mtime_ms, node.version,
                    2 * node.creations - children, node.ephemeral_owner, len(node.data or b""), children,
                    node.pzxid)

    # Executing.

    def execute(self, request: Request) -> Outcome:
        """The request's outcome; on an error the draft is as before."""
        try:
            if isinstance(request, Multi):
                return self._multi(request)
            if isinstance(request, (Exists, GetData, GetChildren)):
                return self._read(request)
            self.last_zxid += 1
            return self._operate(request)
        except StoreError as error:
            return error

    def end_session(self, session_id: int) -> None:
        """Delete the session's ephemeral nodes, in the order of their paths."""
        tree = self._base
        assert isinstance(tree, DataTree)
        self.last_zxid += 1
        for path in sorted(tree.ephemerals_of(session_id)):
            self._remove(path)

    def _multi(self, multi: Multi) -> MultiResult:
        self.last_zxid += 1
        inner = Draft(self, self._session_id, self._now_ms)
        results: list[OperationResult] = []
        for index, operation in enumerate(multi.operations):
            try:
                results.append(inner._operate(operation))
            except StoreError as error:
                raise _failed_multi(multi.operations, index, error) from error
        self._merge(inner)
        return MultiResult(tuple(results))

    def _merge(self, inner: Draft) -> None:
        self._nodes.update(inner._nodes)
        for parent, names in inner._added.items():
            for name in names:
                self._child_added(parent, name)
        for parent, names in inner._removed.items():
            for name in names:
                self._child_removed(parent, name)
        self.effects += inner.effects

    def _operate(self, operation: Operation) -> OperationResult:
        match operation:
            case Create():
                return self._create(operation)
            case SetData():
                return self._set_data(operation)
            case Delete():
                return self._delete(operation)
            case Check():
                return self._check(operation)

    def _create(self, operation: Create) -> CreateResult:
        check_path(operation.path, sequential=operation.sequential)
        parent_path = parent_of(operation.path)
        parent = self.node(parent_path)
        if parent is None:
            raise NoNodeError(operation.path, "the parent does not exist")
        path = operation.path
        if operation.sequential:
            path += f"{parent.creations:010d}"
        if self.node(path) is not None:
            raise NodeExistsError(path, "the node exists")
        if parent.ephemeral_owner:
            raise NoChildrenForEphemeralsError(path, "the parent is ephemeral")
        zxid, now_ms = self.last_zxid, self._now_ms
        owner = self._session_id if operation.ephemeral else 0
        self._nodes[path] = Node(operation.data, zxid, zxid, zxid, now_ms, now_ms, 0, 0, owner)
        self._nodes[parent_path] = parent._replace(creations=parent.creations + 1, pzxid=zxid)
        self._child_added(parent_path, path.rpartition("/")[2])
        self.effects += (Trigger(EventType.NODE_CREATED, path),
                         Trigger(EventType.NODE_CHILDREN_CHANGED, parent_path))
        return CreateResult(path)

    def _set_data(self, operation: SetData) -> SetDataResult:
        path = operation.path
        node = self._existing(path)
        _check_version(path, node, operation.version)
        node = node._replace(data=operation.data, mzxid=self.last_zxid, mtime_ms=self._now_ms,
                             version=node.version + 1)
        self._nodes[path] = node
        self.effects.append(Trigger(EventType.NODE_DATA_CHANGED, path))
        return SetDataResult(self.stat(path, node))

    def _delete(self, operation: Delete) -> DeleteResult:
        path = operation.path
        if path == "/":
            raise BadArgumentsError(path, "the root cannot be deleted")
        node = self._existing(path)
        _check_version(path, node, operation.version)
        if self.child_count(path):
            raise NotEmptyError(path, "the node has children")
        self._remove(path)
        return DeleteResult()

    def _remove(self, path: str) -> None:
        parent_path, _, name = path.rpartition("/")
        parent_path = parent_path or "/"
        parent = self._existing(parent_path)
        self._nodes[path] = None
        self._nodes[parent_path] = parent._replace(pzxid=self.last_zxid)
        self._child_removed(parent_path, name)
        self.effects += (Trigger(EventType.NODE_DELETED, path),
                         Trigger(EventType.NODE_CHILDREN_CHANGED, parent_path))

    def _check(self, operation: Check) -> CheckResult:
        _check_version(operation.path, self._existing(operation.path), operation.version)
        return CheckResult()

    def _read(self, request: Read) -> Outcome:
        path = request.path
        if isinstance(request, Exists):
            check_path(path)
            node = self.node(path)
            outcome: Outcome = ExistsResult(None if node is None else self.stat(path, node))
        elif isinstance(request, GetData):
            node = self._existing(path)
            outcome = GetDataResult(node.data, self.stat(path, node))
        else:
            node = self._existing(path)
            outcome = GetChildrenResult(tuple(self.children(path)), self.stat(path, node))
        if request.watch:
            self.effects.append(WatchArmed(path, isinstance(request, GetChildren)))
        return outcome

    def _child_added(self, parent: str, name: str) -> None:
        removed = self._removed.get(parent)
        if removed is not None and name in removed:
            removed.discard(name)
        else:
            self._added.setdefault(parent, set()).add(name)

    def _child_removed(self, parent: str, name: str) -> None:
        added = self._added.get(parent)
        if added is not None and name in added:
            added.discard(name)
        else:
            self._removed.setdefault(parent, set()).add(name)

    # Committing.

    def changes(self) -> list[Change]:
        """One change per touched path, parents before their children, for the disk and for `replay`."""
        return [Change(path, node) for path, node in sorted(self._nodes.items(), key=_by_path)]


def _by_path(item: tuple[str, Node | None]) -> str:
    return item[0]


def _check_version(path: str, node: Node, expected: int) -> None:
    if expected not in (ANY_VERSION, node.version):
        raise BadVersionError(path, f"version is {node.version}, not {expected}")


def _failed_multi(operations: tuple[Operation, ...], failed_index: int, cause: StoreError) -> MultiError:
    results = [RolledBackError(operation.path) for operation in operations[:failed_index]]
    after = [RuntimeInconsistencyError(operation.path) for operation in operations[failed_index + 1:]]
    return MultiError((*results, cause, *after), failed_index)


class WatchTable:
    """Armed watches of all sessions. `fire` disarms; a watcher is told once however often it armed."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[int]] = {}
        self._children: dict[str, set[int]] = {}

    def arm(self, armed: WatchArmed, session_id: int) -> None:
        table = self._children if armed.children else self._nodes
        table.setdefault(armed.path, set()).add(session_id)

    def fire(self, trigger: Trigger) -> list[int]:
        """Sessions to be told of the trigger, each once."""
        if trigger.type is EventType.NODE_CHILDREN_CHANGED:
            return sorted(self._children.pop(trigger.path, ()))
        told = self._nodes.pop(trigger.path, set())
        if trigger.type is EventType.NODE_DELETED:
            told = told | self._children.pop(trigger.path, set())
        return sorted(told)

    def drop_session(self, session_id: int) -> None:
        for table in (self._nodes, self._children):
            for path in [path for path, sessions in table.items() if session_id in sessions]:
                table[path].discard(session_id)
                if not table[path]:
                    del table[path]

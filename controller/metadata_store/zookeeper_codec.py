"""Our requests as kazoo's, and ZooKeeper's answers as our outcomes.

Requests are built from kazoo's protocol classes and not through the methods of its client, because those
take no null data in a transaction, drop the '/' at the end of a sequential path in one, and make two futures
with a lock each for every create.

The chroot is put before paths and taken off here, so kazoo knows of none: it can then be created with the
same client.

Runs in: controller. No state but chroot and access.
"""
from __future__ import annotations

from typing import Any

from kazoo import exceptions as kazoo_errors
from kazoo.protocol import serialization as wire
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE

from controller.metadata_store.data_tree import check_path
from controller.metadata_store.errors import (
    BadArgumentsError,
    BadVersionError,
    ConnectionLossError,
    MultiError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistencyError,
    SessionExpiredError,
    StoreError,
    StoreRefusedError,
)
from controller.metadata_store.operations import (
    Check,
    CheckResult,
    Create,
    CreateResult,
    Delete,
    DeleteResult,
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
    Request,
    SetData,
    SetDataResult,
    Stat,
)
from controller.metadata_store.zookeeper_settings import Access, access_of

REQUEST_BYTES_MAX = (1 << 20) - 1
"""jute.maxbuffer of a server that nobody configured. A server closes the connection on more, which would look
like a lost connection for ever."""
_HEADER_BYTES = 8
_SURELY_SMALL_BYTES = 1 << 18  # of path and data characters; not worth serialising twice

_EPHEMERAL, _SEQUENTIAL = 1, 2

_ACLS = {
    Access.OPEN: OPEN_ACL_UNSAFE,
    Access.READABLE: CREATOR_ALL_ACL + READ_ACL_UNSAFE,
    Access.PRIVATE: CREATOR_ALL_ACL,
}

# Looked through from the top: kazoo's "closed" is derived from its "expired".
_ERRORS: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (kazoo_errors.NoNodeError, NoNodeError, "no such node"),
    (kazoo_errors.NodeExistsError, NodeExistsError, "the node exists"),
    (kazoo_errors.BadVersionError, BadVersionError, "the version is another one"),
    (kazoo_errors.NotEmptyError, NotEmptyError, "the node has children"),
    (kazoo_errors.NoChildrenForEphemeralsError, NoChildrenForEphemeralsError, "the parent is ephemeral"),
    (kazoo_errors.BadArgumentsError, BadArgumentsError, "ZooKeeper refuses the arguments"),
    (kazoo_errors.RolledBackError, RolledBackError, ""),
    (kazoo_errors.RuntimeInconsistency, RuntimeInconsistencyError, ""),
    (kazoo_errors.ConnectionClosedError, ConnectionLossError, "the connection to ZooKeeper is closed"),
    (kazoo_errors.ConnectionLoss, ConnectionLossError, "the connection to ZooKeeper was lost"),
    (kazoo_errors.SessionMovedError, ConnectionLossError, "the session moved to another server"),
    (kazoo_errors.OperationTimeoutError, ConnectionLossError, "ZooKeeper took too long"),
    (kazoo_errors.SessionExpiredError, SessionExpiredError, "the ZooKeeper session has expired"),
    (kazoo_errors.NoAuthError, StoreRefusedError,
     "ZooKeeper gives this broker no access to the node: it must log in as the one that created it"),
    (kazoo_errors.InvalidACLError, StoreRefusedError,
     "ZooKeeper refuses the node's access list: with zookeeper.set.acl=true the broker has to log in, by "
     "SASL or with a TLS certificate"),
)


def watch_marker(_event: object) -> None:
    """Stands in kazoo's tables for "somebody watches"; the handler takes the event before this is called."""


class RequestCodec:
    """chroot: "" or "/kafka". secure: nodes belong to their creator."""

    def __init__(self, chroot: str, secure: bool) -> None:
        self._chroot = chroot
        self._secure = secure

    def below(self, chroot: str) -> RequestCodec:
        """The same for paths below a chroot."""
        return RequestCodec(chroot, self._secure)

    def prepare(self, request: Request) -> Any:
        """What kazoo sends, or the error that keeps it from going on the wire."""
        try:
            encoded = self._encode_multi(request) if isinstance(request, Multi) else self._encode(request)
            _check_size(request, encoded)
        except StoreError as error:
            return error
        return encoded

    def _absolute(self, path: str) -> str:
        return (self._chroot if path == "/" else self._chroot + path) or "/"

    def relative(self, path: str) -> str:
        return path.removeprefix(self._chroot) or "/"

    def _encode(self, request: Operation | Exists | GetData | GetChildren) -> Any:
        check_path(request.path, sequential=isinstance(request, Create) and request.sequential)
        path = self._absolute(request.path)
        match request:
            case Create():
                flags = _EPHEMERAL * request.ephemeral | _SEQUENTIAL * request.sequential
                acl = _ACLS[access_of(request.path, self._secure)]
                return wire.Create(path, request.data, acl, flags)
            case SetData():
                return wire.SetData(path, request.data, request.version)
            case Delete():
                if request.path == "/":
                    raise BadArgumentsError(request.path, "the root cannot be deleted")
                return wire.Delete(path, request.version)
            case Check():
                return wire.CheckVersion(path, request.version)
            case Exists():
                return wire.Exists(path, watch_marker if request.watch else None)
            case GetData():
                return wire.GetData(path, watch_marker if request.watch else None)
            case GetChildren():
                return wire.GetChildren2(path, watch_marker if request.watch else None)

    def _encode_multi(self, multi: Multi) -> Any:
        encoded = []
        for index, operation in enumerate(multi.operations):
            try:
                encoded.append(self._encode(operation))
            except StoreError as error:
                raise _failed_multi(multi, index, error) from error
        return wire.Transaction(encoded)

    def outcome(self, request: Request, answer: Any) -> Outcome:
        """answer: what kazoo read, or the exception it made of it."""
        if isinstance(answer, Exception):
            return error_from(answer, "" if isinstance(request, Multi) else request.path)
        match request:
            case Multi():
                return self._multi_outcome(request, answer)
            case Exists():
                return ExistsResult(None if answer is None else _stat(answer))
            case GetData():
                data, stat = answer
                return GetDataResult(data, _stat(stat))
            case GetChildren():
                children, stat = answer
                return GetChildrenResult(tuple(children), _stat(stat))
            case _:
                return self._operation_result(request, answer)

    def _operation_result(self, operation: Operation, answer: Any) -> OperationResult:
        match operation:
            case Create():
                return CreateResult(self.relative(answer))
            case SetData():
                return SetDataResult(_stat(answer))
            case Delete():
                return DeleteResult()
            case Check():
                return CheckResult()

    def _multi_outcome(self, multi: Multi, answers: list[Any]) -> Outcome:
        failures = [index for index, answer in enumerate(answers)
                    if isinstance(answer, Exception) and not isinstance(answer, kazoo_errors.RolledBackError)]
        if failures:
            index = failures[0]
            return _failed_multi(multi, index, error_from(answers[index], multi.operations[index].path))
        return MultiResult(tuple(
            self._operation_result(operation, answer)
            for operation, answer in zip(multi.operations, answers, strict=True)))


def _failed_multi(multi: Multi, failed_index: int, cause: StoreError) -> MultiError:
    before = [RolledBackError(each.path) for each in multi.operations[:failed_index]]
    after = [RuntimeInconsistencyError(each.path) for each in multi.operations[failed_index + 1:]]
    return MultiError((*before, cause, *after), failed_index)


def error_from(error: Exception, path: str) -> StoreError:
    """Errors that no table names come out as the base class, with ZooKeeper's name for them."""
    for theirs, ours, reason in _ERRORS:
        if isinstance(error, theirs):
            return ours(path, reason)
    return StoreError(path, f"ZooKeeper answers {type(error).__name__} {error}".rstrip())


def _stat(stat: Any) -> Stat:
    return Stat(stat.czxid, stat.mzxid, stat.ctime, stat.mtime, stat.version, stat.cversion,
                stat.ephemeralOwner, stat.dataLength, stat.numChildren, stat.pzxid)


def _check_size(request: Request, encoded: Any) -> None:
    operations = request.operations if isinstance(request, Multi) else (request,)
    roughly = sum(len(each.path) + (len(each.data or b"") if isinstance(each, Create | SetData) else 0) + 64
                  for each in operations)
    if roughly <= _SURELY_SMALL_BYTES:
        return
    size = len(encoded.serialize()) + _HEADER_BYTES
    if size > REQUEST_BYTES_MAX:
        raise BadArgumentsError(
            operations[0].path, f"request of {size} bytes, at most {REQUEST_BYTES_MAX} are allowed")

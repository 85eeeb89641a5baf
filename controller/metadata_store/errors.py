"""What a metadata store answers instead of a result, in ZooKeeper's names.

Errors about one request travel as values in the list of outcomes (a batch goes on after a failed request);
the convenience methods of `MetadataStore` raise them. Whose fault: `NoNodeError` ... `BadArgumentsError` are
answers about the tree, `ConnectionLossError` and its kin are the outside world, `StoreRefusedError` needs
the operator.

Runs in: controller. Pure data.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.metadata_store.operations import Outcome


class StoreError(Exception):
    """Base of everything a metadata store reports on purpose. path: the node it is about, or ''."""

    def __init__(self, path: str = "", reason: str = "") -> None:
        super().__init__(f"{path}: {reason}" if reason and path else reason or path)
        self.path = path

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.path))


class NoNodeError(StoreError):
    """The node, or for a create its parent, does not exist."""


class NodeExistsError(StoreError):
    """Create found the node there already."""


class BadVersionError(StoreError):
    """The node's version is not the expected one."""


class NotEmptyError(StoreError):
    """Delete found children."""


class NoChildrenForEphemeralsError(StoreError):
    """The parent of a new node is ephemeral."""


class BadArgumentsError(StoreError):
    """A path that no tree can hold, or the root where it cannot be meant."""


class RolledBackError(StoreError):
    """Part of a failed multi: this operation alone would have succeeded and was undone."""


class RuntimeInconsistencyError(StoreError):
    """Part of a failed multi: this operation comes after the failed one and was never tried."""


class MultiError(StoreError):
    """A multi failed as a whole and changed nothing.

    results: one error per operation, in order: `RolledBackError` before the failed one, the cause at
    `failed_index`, `RuntimeInconsistencyError` after it.
    """

    def __init__(self, results: tuple[StoreError, ...], failed_index: int) -> None:
        cause = results[failed_index]
        super().__init__(cause.path, f"{type(cause).__name__} in operation {failed_index} of a multi")
        self.results = results
        self.failed_index = failed_index

    @property
    def cause(self) -> StoreError:
        return self.results[self.failed_index]


class ConnectionLossError(StoreError):
    """The store cannot be reached. Whether the request took effect is not known: read before repeating."""


class StoreUnavailableError(ConnectionLossError):
    """The store's disk refused the write. Nothing of the batch took effect; it may be repeated."""


class SessionExpiredError(StoreError):
    """This session is over and its ephemeral nodes are gone; only a new session can go on."""


class StoreRefusedError(StoreError):
    """The store must not be used by this process (in use, foreign, damaged). The text says what to do."""


def raise_if_error(outcome: Outcome) -> None:
    """Raise the outcome when it is an error."""
    if isinstance(outcome, StoreError):
        raise outcome

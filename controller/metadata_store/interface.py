"""`MetadataStore`: the one door to cluster metadata, shaped after a ZooKeeper session.

Why so: the controller is written once, against ZooKeeper's semantics, and runs on ZooKeeper or on the
embedded store without knowing which. Requests are submitted in batches: a batch is pipelined (each request
is its own transaction, executed in order, and fails alone), which is what makes the fail-over of ten
thousand partitions one round of fsync or of network instead of ten thousand.

Watches are one-shot and arrive as events on one queue per session, in the order of the changes and never
before the change can be read. A watch is armed by repeating the read: read after watch, so nothing between
is lost.

Runs in: controller (trio). One object is one session; the controller process owns it.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import trio

from controller.metadata_store.errors import NodeExistsError, NoNodeError, StoreError
from controller.metadata_store.operations import (
    ANY_VERSION,
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
    SessionId,
    SetData,
    SetDataResult,
    Stat,
    WatchEvent,
)

_R = TypeVar("_R")


class MetadataStore(ABC):
    """One session of a metadata store.

    Implementations give `submit`, `events`, `session`, `session_timeout_ms` and `close`; the rest is the same
    for all.
    """

    @property
    @abstractmethod
    def session(self) -> SessionId:
        """Id and password with which a successor of this process resumes the session."""

    @property
    @abstractmethod
    def session_timeout_ms(self) -> int | None:
        """How long the store keeps the session without hearing of it; None: as long as this process runs."""

    @property
    @abstractmethod
    def events(self) -> trio.MemoryReceiveChannel[WatchEvent]:
        """Fired watches and changes of the session's state. Closed after `close`."""

    @abstractmethod
    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        """Execute the requests in order; one outcome each, errors included as values.

        Raises SessionExpiredError or ConnectionLossError when the whole batch got no answer.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the session at once: its ephemeral nodes go, others' watches fire."""

    async def _one(self, request: Request, kind: type[_R]) -> _R:
        (outcome,) = await self.submit((request,))
        if isinstance(outcome, StoreError):
            raise outcome
        assert isinstance(outcome, kind), outcome
        return outcome

    async def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False,
                     sequential: bool = False) -> str:
        """The path as created. NodeExistsError, NoNodeError (parent), NoChildrenForEphemeralsError."""
        return (await self._one(Create(path, data, ephemeral, sequential), CreateResult)).path

    async def set_data(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        """NoNodeError, BadVersionError."""
        return (await self._one(SetData(path, data, version), SetDataResult)).stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """NoNodeError, BadVersionError, NotEmptyError."""
        await self._one(Delete(path, version), DeleteResult)

    async def multi(self, *operations: Operation) -> tuple[OperationResult, ...]:
        """MultiError when any operation fails; then nothing has changed."""
        return (await self._one(Multi(operations), MultiResult)).results

    async def exists(self, path: str, *, watch: bool = False) -> Stat | None:
        return (await self._one(Exists(path, watch), ExistsResult)).stat

    async def get_data(self, path: str, *, watch: bool = False) -> GetDataResult:
        """NoNodeError."""
        return await self._one(GetData(path, watch), GetDataResult)

    async def find_data(self, path: str) -> GetDataResult | None:
        """`get_data` for a node that may be missing."""
        try:
            return await self.get_data(path)
        except NoNodeError:
            return None

    async def get_children(self, path: str, *, watch: bool = False) -> tuple[str, ...]:
        """NoNodeError."""
        return (await self._one(GetChildren(path, watch), GetChildrenResult)).children

    async def ensure_path(self, path: str) -> None:
        """Create the node and its missing parents, persistent and without data."""
        parts = path.strip("/").split("/")
        paths = ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        for outcome in await self.submit([Create(parent) for parent in paths]):
            if isinstance(outcome, StoreError) and not isinstance(outcome, NodeExistsError):
                raise outcome

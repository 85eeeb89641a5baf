"""What each process is given at its start: plain data, made by the supervisor before it forks.

Runs in: made in the supervisor, used in the process that the name says. A child owns every descriptor
reachable from its context and has closed all others.
"""
from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from storage.ipc.arena import Arena, ArenaView
from storage.ipc.control import ControlSocket
from storage.ipc.doorbell import Doorbell
from storage.ipc.layout import ControlLayout
from storage.ipc.partition_table import PartitionTable
from storage.ipc.region import Region
from storage.ipc.ring import (
    CompletionConsumer,
    CompletionProducer,
    RingLink,
    SubmissionConsumer,
    SubmissionProducer,
    open_front_end_rings,
    open_storage_rings,
)


@dataclass(frozen=True)
class Doorbells:
    """Of one link in one generation. As descriptors in a message: [submissions, completions]."""

    submissions: Doorbell
    completions: Doorbell

    @classmethod
    def create(cls) -> Doorbells:
        return cls(Doorbell.create(), Doorbell.create())

    @classmethod
    def from_fds(cls, fds: list[int]) -> Doorbells:
        """fds: as received beside `storage_started` or `front_end_started`."""
        submissions, completions = fds
        return cls(Doorbell(submissions), Doorbell(completions))

    def fds(self) -> list[int]:
        return [self.submissions.fileno(), self.completions.fileno()]

    def close(self) -> None:
        self.submissions.close()
        self.completions.close()


@dataclass(frozen=True)
class ControllerContext:
    """session: the supervisor's copy of what the last controller process wanted kept (message `session`)."""

    config: Any
    control: ControlSocket
    to_broker: socket.socket
    from_broker: socket.socket
    session: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StorageContext:
    """restarted: an earlier storage process of this boot loaded this directory, its slots are valid.
    quarantined: (slot, slot generation) that killed two predecessors; serve only errors for them."""

    config: Any
    index: int
    directory: str
    control: ControlSocket
    front_end_socket: ControlSocket
    layout: ControlLayout
    control_region: Region
    arena_region: Region
    doorbells: Doorbells
    generation: int
    cluster_id: str
    broker_id: int
    restarted: bool = False
    quarantined: tuple[tuple[int, int], ...] = ()

    def link(self) -> RingLink:
        return RingLink(self.control_region, self.layout, self.index)

    def open_rings(self) -> tuple[SubmissionConsumer, CompletionProducer]:
        """Rings of the generation at start; after `front_end_started`, `open_rings_of` again."""
        return self.open_rings_of(self.doorbells, self.generation)

    def open_rings_of(
        self, doorbells: Doorbells, generation: int
    ) -> tuple[SubmissionConsumer, CompletionProducer]:
        return open_storage_rings(self.link(), doorbells.submissions, doorbells.completions, generation)

    def partition_table(self) -> PartitionTable:
        return PartitionTable(self.control_region, self.layout)

    def arena_view(self) -> ArenaView:
        return ArenaView(self.arena_region)


@dataclass(frozen=True)
class StorageLink:
    """The front end's end of one storage process.

    online: loaded, the rings of `generation` may be opened now. If not online and not offline, it is still
    loading: `storage_started` or `storage_offline` will say. offline: the directory has no process.
    """

    index: int
    directory: str
    control: ControlSocket
    doorbells: Doorbells
    generation: int
    online: bool = True
    offline: bool = False


@dataclass(frozen=True)
class FrontEndContext:
    """listeners: (Listener of the configuration, bound and listening socket).
    restarted: an earlier front end of this boot ran; the slots' front-end halves are valid.
    arena_budget_bytes, arena_reserve_bytes: touched bytes."""

    config: Any
    control: ControlSocket
    storages: list[StorageLink]
    layout: ControlLayout
    control_region: Region
    arena_region: Region
    listeners: list[tuple[Any, socket.socket]]
    to_controller: socket.socket
    from_controller: socket.socket
    broker_id: int
    cluster_id: str
    request_size_bytes_max: int
    arena_budget_bytes: int
    arena_reserve_bytes: int
    restarted: bool = False

    def link(self, index: int) -> RingLink:
        return RingLink(self.control_region, self.layout, index)

    def open_rings(
        self, index: int, doorbells: Doorbells, generation: int
    ) -> tuple[SubmissionProducer, CompletionConsumer]:
        link = self.link(index)
        return open_front_end_rings(link, doorbells.submissions, doorbells.completions, generation)

    def partition_table(self) -> PartitionTable:
        return PartitionTable(self.control_region, self.layout)

    def arena(self) -> Arena:
        """The allocator; make it once."""
        return Arena(self.arena_region, self.request_size_bytes_max, self.arena_budget_bytes,
                     self.arena_reserve_bytes)

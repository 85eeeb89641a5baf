"""Ring entries other than appends, on a real log: what the completion and the log say afterwards."""
from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from storage import errors
from storage.ipc.arena import ArenaView
from storage.ipc.entries import Completion, Submission, SubmissionKind
from storage.ipc.ring import CompletionProducer
from storage.log.partition_log import PartitionLog
from storage.process.commands import Commands
from storage.process.group_commit import GroupCommit
from storage.process.slots import SlotMap
from storage.record.records import Producer
from tests.storage.ipc.links import Link
from tests.storage.log.worlds import World, append_marker, append_transactional, new_world

RESULT_ROOM_BYTES = 1 << 12


class Room:
    """The slab of every entry."""

    def __init__(self) -> None:
        self.data = bytearray(RESULT_ROOM_BYTES)

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(self.data)[offset:offset + size]


class Ring:
    """Takes completions."""

    def __init__(self) -> None:
        self.taken: list[Completion] = []

    def put(self, *fields: int) -> None:
        """leader_epoch and arg0 may be left out, as in CompletionProducer.put."""
        self.taken.append(Completion(*fields, *(-1, 0)[len(fields) - 18:]))


class Process:
    """The part of a storage process that commands run in, with every log of the world in a slot."""

    def __init__(self, world: World) -> None:
        self.slots = SlotMap(Link().table(), 0)
        for log in world.directory.logs.values():
            self.slots.assign(log)
        self.ring = Ring()
        self.commands = Commands(
            world.directory, self.slots, cast(ArenaView, Room()), cast(GroupCommit, None),
            lambda topic, resolved: world.config, lambda log: None)
        self._log = world.log()

    def run(self, kind: SubmissionKind, **fields: Any) -> Completion:
        slot, generation = self.slots.place_of(self._log)
        entry = Submission(int(kind), 0, 0, slot, generation, -1, 1, 0, 0, RESULT_ROOM_BYTES, 0, 0)
        self.commands.run(entry._replace(**fields), cast(CompletionProducer, self.ring))
        return self.ring.taken[-1]


def world_with_ended_transaction(path: Path) -> World:
    """Offsets 0 (data) and 1 (marker), found by a restart without a clean stop."""
    world = new_world(path)
    log = world.new_log()
    append_transactional(log, Producer(7, 0, 0))
    append_marker(log, Producer(7, 0), commit=True)
    world.reopen()
    return world


def test_transaction_that_ended_below_the_watermark_is_stable_for_a_new_leader(tmp_path: Path) -> None:
    """Recovery cannot know the high watermark: until somebody tells, no ended transaction is stable."""
    world = world_with_ended_transaction(tmp_path)
    assert world.log().first_unstable_offset == 0
    completion = Process(world).run(SubmissionKind.BECOME_LEADER, leader_epoch=1, arg0=2)
    assert (completion.error, completion.first_unstable_offset) == (0, -1)
    assert world.log().leader_epoch == 1


def test_transaction_whose_marker_may_yet_be_lost_stays_unstable(tmp_path: Path) -> None:
    """A leader with followers begins with the watermark that it had."""
    world = world_with_ended_transaction(tmp_path)
    completion = Process(world).run(SubmissionKind.BECOME_LEADER, leader_epoch=1, arg0=1)
    assert completion.first_unstable_offset == 0


def test_an_exception_of_our_own_is_the_entrys_error_and_not_the_processs_death(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REVIEW item 20: else the next process would die of the same entry, and then the directory."""
    world = new_world(tmp_path)
    world.new_log()
    process = Process(world)
    monkeypatch.setattr(PartitionLog, "flush", lambda self: 1 // 0)
    assert process.run(SubmissionKind.FLUSH).error == errors.UNKNOWN_SERVER_ERROR
    monkeypatch.undo()
    assert process.run(SubmissionKind.FLUSH).error == 0

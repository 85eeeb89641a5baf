"""A storage process on a full disk: what it answers, and what it tells without being asked."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import msgpack

from storage import errors
from storage.ipc.arena import ArenaView
from storage.ipc.entries import Completion, CompletionKind, Submission, SubmissionKind
from storage.ipc.ring import CompletionProducer
from storage.log.log_config import LogConfig
from storage.process.append_pass import AppendPass
from storage.process.commands import Commands
from storage.process.group_commit import GroupCommit
from storage.process.housekeeping import Housekeeping
from storage.process.slots import SlotMap
from tests.storage.ipc.links import Link
from tests.storage.log.worlds import NOW_MS, FaultyFiles, World, sized_batch

BATCH_BYTES = 600
NO_SLOT = 0xFFFFFFFF
NEVER_MS = 10**9
CONFIG = defaultdict(lambda: NEVER_MS, {"log.flush.scheduler.interval.ms": 1 << 62})
"""Nothing is due by the clock."""


class Completions:
    """Takes answers and unasked completions alike."""

    def __init__(self) -> None:
        self.taken: list[Completion] = []

    def put(self, *fields: int) -> None:
        self.taken.append(Completion(*(fields + (0, 0, -1, 0)[len(fields) - 16:])))

    def put_unasked(self, *fields: int) -> bool:
        self.put(*fields)
        return True


class Process:
    """One log of two-batch segments in a slot, appended to as the ring does it."""

    def __init__(self, path: Path) -> None:
        self.files = FaultyFiles()
        self.world = World(path, LogConfig(segment_size_bytes=2 * BATCH_BYTES), self.files)
        self.world.load()
        self.log = self.world.new_log()
        link = Link()
        table = link.table()
        self.slots = SlotMap(table, 0)
        self.slots.assign(self.log)
        self.log.publish_version = lambda _: self.slots.publish(self.log)
        self.memory = bytearray(1 << 16)
        arena = cast(ArenaView, self)
        sync = cast(GroupCommit, None)
        self.append_pass = AppendPass(self.slots, arena, link.ring, sync)
        self.housekeeping = Housekeeping(CONFIG, self.world.directory, self.slots, table, sync,
                                         lambda: 0, lambda: NOW_MS)
        self.commands = Commands(self.world.directory, self.slots, arena, sync,
                                 lambda topic, resolved: self.world.config, lambda log: None)
        self.completions = Completions()

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(self.memory)[offset:offset + size]

    @property
    def producer(self) -> CompletionProducer:
        return cast(CompletionProducer, self.completions)

    def append(self) -> Completion:
        """One batch; its answer."""
        batch = sized_batch(BATCH_BYTES)
        self.view(0, len(batch))[:] = batch
        slot, generation = self.slots.place_of(self.log)
        entry = Submission(int(SubmissionKind.APPEND), 0, 0, slot, generation, 0, 1, 0, len(batch), 0, 0, 0)
        touched = self.append_pass.run([entry], self.producer, NOW_MS)
        answer = self.completions.taken[-1]
        self.housekeeping.after_appends(touched)
        self.housekeeping.run_due(0, self.producer)
        return answer

    def open(self, topic: str) -> Completion:
        message = msgpack.packb({"topic": topic, "partition": 0, "topic_id": bytes(range(16)), "config": {}})
        self.view(0, len(message))[:] = message
        entry: Any = Submission(int(SubmissionKind.OPEN), 0, 0, NO_SLOT, 0, -1, 1, 0, len(message), 4096, 0, 0)
        self.commands.run(entry, self.producer)
        return self.completions.taken[-1]


def test_an_append_is_refused_with_an_error_that_every_client_retries(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.files.fail_always()
    assert process.append().error == errors.NOT_ENOUGH_REPLICAS
    process.files.fail_at(None)
    assert process.append().error == 0


def test_readers_are_told_of_a_roll_that_was_begun_and_undone(tmp_path: Path) -> None:
    """The version has moved twice; no completion of an append says so, and readers wait for it."""
    process = Process(tmp_path)
    process.append()
    process.append()
    before = process.log.segment_list_version
    process.files.fail_at(1)  # the second of the new segment's files
    assert process.append().error == errors.NOT_ENOUGH_REPLICAS
    assert process.log.segment_list_version > before
    told = process.completions.taken[-1]
    assert told.kind == CompletionKind.LOG_START_MOVED
    assert told.segment_list_version == process.log.segment_list_version
    assert told.log_end_offset == 2


def test_a_log_that_finds_no_room_is_refused_in_a_way_that_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.files.fail_always()
    assert process.open("later").error == errors.NOT_ENOUGH_REPLICAS
    assert not (tmp_path / "later-0").exists()
    process.files.fail_at(None)
    assert process.open("later").error == 0

"""Any history, any kind of restart: what comes back is what was there (issue 3, section 9).

Hypothesis prints the shortest failing history; a history is a list of plain tuples and can be pasted back.
"""
from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import LogAppendError
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.record.batch import iterate_headers
from storage.record.records import Producer
from tests.storage.log.test_loader import memory_of
from tests.storage.log.worlds import (
    NOW_MS,
    World,
    append,
    append_marker,
    batch,
    file_contents,
    log_bytes,
    sized_batch,
    trusted_end,
)

STEPS = st.lists(st.one_of(
    st.tuples(st.just("plain"), st.integers(100, 700), st.integers(-5, 5)),
    st.tuples(st.just("idempotent"), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.just("transactional"), st.integers(4, 6), st.integers(1, 4)),
    st.tuples(st.just("group"), st.integers(2, 6), st.just(0)),
    st.tuples(st.just("marker"), st.integers(4, 6), st.booleans()),
    st.tuples(st.just("new epoch"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("lead"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("roll"), st.just(0), st.just(0)),
    st.tuples(st.just("flush"), st.just(0), st.just(0)),
    st.tuples(st.just("truncate"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("restart"), st.sampled_from(["clean", "kill", "death", "torn kill", "torn death"]),
              st.just(0)),
), max_size=40)


class Historian:
    """Plays a history on a world; keeps the producers' sides of it."""

    def __init__(self, path: Path) -> None:
        self.world = World(path, LogConfig(segment_size_bytes=1500, index_interval_bytes=200))
        self.world.load()
        self.world.new_log()
        self.epochs = dict.fromkeys(range(1, 7), 0)
        self.time = NOW_MS

    @property
    def log(self) -> PartitionLog:
        return self.world.log()

    def producer(self, number: int) -> Producer:
        entry = self.log.producer_state.producers.get(number)
        epoch = self.epochs[number]
        sequence = entry.last_sequence + 1 if entry is not None and entry.producer_epoch == epoch else 0
        return Producer(number, epoch, sequence)

    def play(self, kind: str, first: Any, second: Any) -> None:
        self.time += 7
        getattr(self, "do_" + kind.replace(" ", "_"))(first, second)

    def do_plain(self, size: int, skew: int) -> None:
        append(self.log, batch(value=b"x" * size, timestamp=self.time + skew * 10))

    def do_idempotent(self, number: int, count: int) -> None:
        append(self.log, batch(count, producer=self.producer(number), timestamp=self.time))

    def do_transactional(self, number: int, count: int) -> None:
        view = batch(count, producer=self.producer(number), timestamp=self.time, transactional=True)
        append(self.log, view, transaction_verified=True)

    def do_group(self, count: int, _: int) -> None:
        append(self.log, *(sized_batch(400, timestamp=self.time + index) for index in range(count)))

    def do_marker(self, number: int, commit: bool) -> None:
        append_marker(self.log, Producer(number, self.epochs[number], -1), commit=commit, timestamp=self.time)

    def do_new_epoch(self, number: int, _: int) -> None:
        self.epochs[number] += 1

    def do_lead(self, increment: int, _: int) -> None:
        self.log.become_leader(max(self.log.leader_epoch, self.log.leader_epoch_cache.latest_epoch) + increment)

    def do_roll(self, _: int, __: int) -> None:
        self.log.roll(self.time)

    def do_flush(self, _: int, __: int) -> None:
        self.log.flush()
        self.world.directory.write_recovery_points()

    def do_truncate(self, share: float, _: int) -> None:
        """At a batch's start: in the middle of one, an unclean start cannot know the end."""
        starts = [header.base_offset for _, header in iterate_headers(log_bytes(self.log))]
        if starts:
            self.log.truncate_to(starts[int(share * (len(starts) - 1))])
            self.do_lead(1, 0)

    def do_restart(self, how: str, _: int) -> None:
        before, data, epoch = memory_of(self.log), log_bytes(self.log), self.log.leader_epoch
        end = trusted_end(self.log)
        if "torn" in how:
            with open(self.log.segments[-1].log.path, "ab") as file:
                file.write(bytes(batch(3))[:-1])
        if how == "clean":
            assert self.world.directory.close({}) == []
        self.world.reopen(trusted_end_of=(lambda topic, partition: end) if "death" in how else None)
        assert self.world.directory.failed == {}
        assert memory_of(self.log) == before
        assert log_bytes(self.log) == data
        self.log.become_leader(max(epoch, self.log.leader_epoch_cache.latest_epoch))


@settings(max_examples=4000, deadline=None)
@given(STEPS)
def test_every_restart_brings_back_what_was_there(steps: list[tuple[str, Any, Any]]) -> None:
    path = Path(tempfile.mkdtemp(prefix="ottla-history-"))
    try:
        historian = Historian(path)
        for step in steps:
            try:
                historian.play(*step)
            except LogAppendError:
                continue  # a fenced epoch, a marker of an old one: the history goes on
        for how in ("torn death", "kill", "clean"):
            historian.play("restart", how, 0)
        check_files(historian)
    finally:
        shutil.rmtree(path)


def check_files(historian: Historian) -> None:
    """After a clean stop nothing but the files of segments, snapshots and checkpoints is there."""
    log = historian.log
    bases = [segment.base_offset for segment in log.segments]
    for name, data in file_contents(log.path).items():
        if name.endswith(".deleted") or "." not in name or name == "partition.metadata":
            continue
        offset, suffix = int(name.split(".")[0]), name.split(".")[1]
        assert offset in bases or (suffix == "snapshot" and offset == log.log_end_offset)
        assert len(data) % {"index": 8, "timeindex": 12, "txnindex": 34}.get(suffix, 1) == 0

"""The cleaner of one directory with real helper processes, on a clock that only the tests move."""
from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from storage.checkpoint.offset_checkpoint import CLEANER_OFFSET_CHECKPOINT
from storage.fs import OsFileLayer
from storage.helpers.main import helper_main
from storage.log.failures import DirectoryFailed
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.process.cleaning_steps import CleanerShare
from storage.process.log_cleaner import PURPOSE, LogCleaner, Surroundings, helpers_of, share_of
from storage.record.records import Producer
from tests.storage.cleaner.cleaning_worlds import contents, leftovers, put
from tests.storage.log.worlds import NOW_MS, World, append_marker

BACKOFF_MS = 100
SHARE = CleanerShare(1 << 20, 0.9, 1 << 18, 1e300)
ANSWER_WAIT_MS = 20_000
CONFIG = LogConfig(compact=True, delete=False, segment_size_bytes=400, index_interval_bytes=50)


class Loop:
    """What the storage process is to its cleaner. helpers: pids of those that were forked."""

    def __init__(self, path: Path, config: LogConfig = CONFIG, helper_count: int = 1) -> None:
        path.mkdir(exist_ok=True)
        self.world = World(path, config, OsFileLayer())
        self.world.load()
        self.poller = select.poll()
        self.serving: dict[int, Callable[[], None]] = {}
        self.watermarks: dict[tuple[str, int], int] = {}
        self.changed: list[PartitionLog] = []
        self.helpers: list[int] = []
        self.wanted = 0
        self.cleaner = LogCleaner(self.world.directory, helper_count, SHARE, BACKOFF_MS, Surroundings(
            self._ask, self._watch, self._unwatch, lambda: self.watermarks, self.changed.append,
            lambda: self.world.monotonic_ms, lambda: self.world.now_ms))

    def _ask(self, purpose: str) -> None:
        assert purpose == PURPOSE
        self.wanted += 1

    def _watch(self, fd: int, serve: Callable[[], None]) -> None:
        self.serving[fd] = serve
        self.poller.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        del self.serving[fd]
        self.poller.unregister(fd)

    def new_log(self, topic: str, partition: int = 0) -> PartitionLog:
        log = self.world.new_log(topic, partition)
        log.publish_version = lambda _: None
        return log

    def fill(self, log: PartitionLog, count: int = 6, key: bytes = b"k") -> None:
        for number in range(count):
            put(log, (key, b"%d" % number), (b"%d" % (number % 2), b"x" * 60))
        log.roll(NOW_MS)
        self.watermarks[log.topic, log.partition] = log.log_end_offset
        log.on_high_watermark_updated(log.log_end_offset)

    def fork_helper(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wanted -= 1
        pid = os.fork()
        if pid == 0:
            ours.close()
            for fd in self.serving:
                os.close(fd)
            code = 1
            with contextlib.suppress(BaseException):
                code = helper_main(theirs)
            os._exit(code)
        theirs.close()
        self.helpers.append(pid)
        self.cleaner.helper_arrived(ours)
        return pid

    def step(self) -> None:
        """One answer of a helper."""
        ready = self.poller.poll(ANSWER_WAIT_MS)
        assert ready, "no helper answered"
        for fd, _ in ready:
            if fd in self.serving:
                self.serving[fd]()

    def run(self) -> None:
        """Until no cleaning runs or waits."""
        while self.wanted or self.serving:
            if self.wanted:
                self.fork_helper()
            if self.serving:
                self.step()

    def clean(self) -> None:
        """Passes until nothing is due."""
        self.cleaner.run_pass()
        self.run()

    def close(self) -> None:
        self.cleaner.close()
        for pid in self.helpers:
            os.waitpid(pid, 0)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path / "logs")
    yield made
    made.close()


def checkpoint_of(loop: Loop) -> str:
    return Path(loop.world.path, CLEANER_OFFSET_CHECKPOINT).read_text()


def test_a_dirty_log_is_compacted_by_a_helper_and_the_checkpoint_says_so(loop: Loop) -> None:
    log = loop.new_log("orders")
    loop.fill(log)
    loop.clean()
    assert contents(log) == [(9, b"0", b"x" * 60), (10, b"k", b"5"), (11, b"1", b"x" * 60)]
    assert checkpoint_of(loop) == "0\n1\norders 0 12\n"
    assert loop.changed
    assert leftovers(log) == []


def test_a_log_is_not_looked_at_before_its_high_watermark_is_known(loop: Loop) -> None:
    loop.fill(loop.new_log("orders"))
    loop.watermarks.clear()
    loop.clean()
    assert loop.helpers == []


def test_transactions_count_as_ended_with_the_high_watermark(loop: Loop) -> None:
    """Whether or not the log has been told: it hears of it only when it becomes the leader."""
    log = loop.new_log("orders")
    producer = Producer(5, 0, 0)
    put(log, (b"k", b"1"), producer=producer, transactional=True)
    append_marker(log, producer, commit=True)
    put(log, (b"k", b"2"))
    log.roll(NOW_MS)
    loop.watermarks["orders", 0] = 1
    loop.clean()
    assert loop.helpers == []
    loop.watermarks["orders", 0] = 2
    loop.clean()
    assert loop.helpers == [], "the segment that holds the stable offset"
    loop.watermarks["orders", 0] = 3
    assert log.first_unstable_offset == 0
    loop.clean()
    assert contents(log) == [(2, b"k", b"2")]


def test_the_dirtiest_comes_first_and_one_helper_does_one_log_after_the_other(loop: Loop) -> None:
    half, full = loop.new_log("half"), loop.new_log("full")
    loop.fill(half, 6)
    loop.clean()
    loop.fill(half, 40)
    loop.fill(full, 6)
    before = contents(half)
    loop.cleaner.run_pass()
    assert loop.wanted == 1
    assert loop.cleaner.is_cleaning(full)
    assert not loop.cleaner.is_cleaning(half)
    loop.run()
    assert len(contents(full)) == 3
    assert len(contents(half)) < len(before)


def test_helpers_are_no_more_than_configured(tmp_path: Path) -> None:
    loop = Loop(tmp_path / "logs", helper_count=2)
    for partition in range(3):
        loop.fill(loop.new_log("orders", partition))
    loop.cleaner.run_pass()
    loop.cleaner.run_pass()
    assert loop.wanted == 2
    loop.run()
    assert [len(contents(log)) for log in loop.world.directory.logs.values()] == [3, 3, 3]
    loop.close()


def test_a_helper_has_low_priority(loop: Loop) -> None:
    loop.fill(loop.new_log("orders"))
    loop.cleaner.run_pass()
    helper = psutil.Process(loop.fork_helper())
    loop.step()
    assert helper.nice() == min(psutil.Process().nice() + 5, 19)
    assert helper.ionice() == psutil.Process(helper.pid).ionice()
    assert helper.ionice().value == 7
    loop.run()


def test_an_uncleanable_log_is_set_aside_with_its_reason_and_tried_again(loop: Loop) -> None:
    bad, good = loop.new_log("bad"), loop.new_log("good")
    for log in (bad, good):
        loop.fill(log)
    path = Path(bad.segments[0].log.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    loop.clean()
    aside = loop.cleaner.set_aside["bad", 0]
    assert str(path) in aside.reason
    assert "does not match its checksum" in aside.reason
    assert aside.retry_ms == BACKOFF_MS * 4
    loop.clean()
    assert len(contents(good)) == 3
    assert leftovers(bad) == []
    helpers = len(loop.helpers)
    loop.clean()
    assert len(loop.helpers) == helpers, "not before its time"
    loop.world.monotonic_ms += BACKOFF_MS * 4
    loop.clean()
    assert loop.cleaner.set_aside["bad", 0].attempts == 2
    path.write_bytes(whole)
    loop.world.monotonic_ms += 10**9
    loop.clean()
    assert loop.cleaner.set_aside == {}
    assert len(contents(bad)) == 3


def killed_at(loop: Loop, answers: int) -> None:
    """Kill the helper after so many of its answers."""
    loop.cleaner.run_pass()
    pid = loop.fork_helper()
    for _ in range(answers):
        loop.step()
    os.kill(pid, signal.SIGKILL)
    while loop.serving:
        loop.step()


@pytest.mark.parametrize("answers", range(5))
def test_a_helper_that_is_killed_costs_nothing(loop: Loop, answers: int) -> None:
    log = loop.new_log("orders")
    loop.fill(log, 8)
    assert len(log.segments) > 4
    killed_at(loop, answers)
    found = {key: (offset, value) for offset, key, value in contents(log)}
    assert found == {b"k": (14, b"7"), b"0": (13, b"x" * 60), b"1": (15, b"x" * 60)}
    assert "process died" in loop.cleaner.set_aside["orders", 0].reason
    assert leftovers(log) == []
    loop.world.monotonic_ms += 10**9
    loop.clean()
    assert len(contents(log)) == 3
    assert loop.cleaner.set_aside == {}


def test_a_deleted_log_ends_its_cleaning(loop: Loop) -> None:
    log = loop.new_log("orders")
    loop.fill(log)
    loop.cleaner.run_pass()
    loop.fork_helper()
    loop.world.directory.delete_partition("orders", 0, "0" * 32)
    loop.cleaner.run_pass()
    assert not loop.cleaner.is_cleaning(log)
    assert not loop.serving
    assert loop.cleaner.set_aside == {}


def test_a_log_that_is_compacted_no_longer_ends_its_cleaning(loop: Loop) -> None:
    log = loop.new_log("orders")
    loop.fill(log)
    before = contents(log)
    loop.cleaner.run_pass()
    loop.fork_helper()
    log.update_config(LogConfig())
    loop.run()
    assert contents(log) == before
    assert leftovers(log) == []


def test_a_truncated_log_is_cleaned_from_the_cut_on(loop: Loop) -> None:
    log = loop.new_log("orders")
    loop.fill(log)
    loop.clean()
    log.truncate_to(6)
    loop.world.directory.cut_cleaner_offset(("orders", 0), 6)
    assert checkpoint_of(loop) == "0\n1\norders 0 6\n"
    loop.fill(log, 6, key=b"new")
    loop.clean()
    assert [key for _, key, _ in contents(log)] == [b"0", b"new", b"1"]


def test_retention_waits_for_the_end_of_a_cleaning(tmp_path: Path) -> None:
    loop = Loop(tmp_path / "logs", LogConfig(compact=True, delete=True, retention_ms=10, segment_size_bytes=400))
    log = loop.new_log("orders")
    loop.fill(log)
    loop.cleaner.run_pass()
    loop.world.now_ms += 10**12  # a segment that the cleaning empties counts by its file's time
    count = len(log.segments)
    loop.cleaner.run_pass()
    loop.world.directory.retention_pass(loop.world.now_ms, lambda *_: 12, loop.cleaner.is_cleaning)
    assert len(log.segments) == count
    loop.run()
    assert contents(log) == [], "the pass after the cleaning"
    assert log.log_start_offset == 12
    loop.close()


def test_retention_of_compacted_logs_is_the_cleaners(tmp_path: Path) -> None:
    """Kafka's too: a compacted log whose policy is delete as well loses old segments with every pass."""
    loop = Loop(tmp_path / "logs", LogConfig(compact=True, delete=True, retention_ms=10, segment_size_bytes=400,
                                             min_cleanable_dirty_ratio=1.0))
    log = loop.new_log("orders")
    loop.fill(log)
    loop.world.now_ms += 1000
    loop.world.directory.retention_pass(loop.world.now_ms, lambda *_: 12)
    assert log.log_start_offset == 0
    loop.cleaner.run_pass()
    assert log.log_start_offset == 12
    loop.close()


def test_a_directory_without_compacted_logs_lets_the_cleaner_sleep(tmp_path: Path) -> None:
    loop = Loop(tmp_path / "logs", LogConfig())
    loop.new_log("orders")
    assert loop.cleaner.run_pass() is False
    loop.close()


def test_a_full_disk_sets_the_log_aside(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    log = loop.new_log("orders")
    loop.fill(log)
    fail_opens(loop, monkeypatch, errno.ENOSPC)
    loop.clean()
    assert "No space left" in loop.cleaner.set_aside["orders", 0].reason
    assert leftovers(log) == []


def test_a_failing_disk_ends_the_directory(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.fill(loop.new_log("orders"))
    fail_opens(loop, monkeypatch, errno.EIO)
    with pytest.raises(DirectoryFailed):
        loop.clean()


def fail_opens(loop: Loop, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr(loop.world.files, "open_write", fail)


@pytest.mark.parametrize(("threads", "directories", "each"), [(1, 1, [1]), (4, 2, [2, 2]), (3, 2, [2, 1]),
                                                              (1, 3, [1, 1, 1])])
def test_threads_are_shared_out_but_every_directory_has_one(
        threads: int, directories: int, each: list[int]) -> None:
    assert [helpers_of(threads, directories, index) for index in range(directories)] == each


def test_all_helpers_together_keep_within_the_node_s_memory_and_rate() -> None:
    config = {"log.cleaner.threads": 3, "log.cleaner.dedupe.buffer.size": 300, "log.cleaner.io.buffer.size": 600,
              "log.cleaner.io.max.bytes.per.second": 30.0, "log.cleaner.io.buffer.load.factor": 0.8}
    assert share_of(config, 2) == CleanerShare(100, 0.8, 100, 10.0)

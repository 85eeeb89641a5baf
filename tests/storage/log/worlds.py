"""A small world for tests of the log: one directory, a clock that only tests move, batches to append.

Nothing here sleeps or asks the real clock.
"""
from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.fs import OS_FILES, FileLayer, OsFileLayer
from storage.fs.layer import WriteBuffer
from storage.log.directory import LogDirectory
from storage.log.environment import LogEnvironment
from storage.log.loader import TrustedEnd
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog, StagedAppend
from storage.log.producer_state import AppendOrigin
from storage.record.control import CONTROL_ABORT, CONTROL_COMMIT, build_end_transaction_batch
from storage.record.records import Producer, Record, build_batch

NOW_MS = 1_700_000_000_000
TOPIC_ID = bytes(range(16))
UNIQUE_ID = "0123456789abcdef0123456789abcdef"
TRANSACTIONAL = 0x10


class World:
    """One log directory at `path`; `reopen` is what a restart does."""

    def __init__(self, path: Path, config: LogConfig | None = None, files: FileLayer = OS_FILES,
                 threads: int = 1) -> None:
        self.path = path
        self.config = config or LogConfig()
        self.files = files
        self.threads = threads
        self.now_ms = NOW_MS
        self.monotonic_ms = 0
        self.directory = self._directory()

    def _directory(self) -> LogDirectory:
        environment = LogEnvironment(self.files, now_ms=lambda: self.now_ms,
                                     monotonic_ms=lambda: self.monotonic_ms, random_below=lambda n: n - 1)
        return LogDirectory(str(self.path), environment, lambda topic: self.config, self.threads)

    def load(self, **arguments: Any) -> LogDirectory:
        self.directory.load(**arguments)
        return self.directory

    def reopen(self, **arguments: Any) -> LogDirectory:
        """A new process after the old one is gone, however it went."""
        for log in self.directory.logs.values():
            log.close_files()
        self.directory = self._directory()
        return self.load(**arguments)

    def new_log(self, topic: str = "orders", partition: int = 0) -> PartitionLog:
        log = self.directory.create_partition(topic, partition, TOPIC_ID)
        log.become_leader(0)
        return log

    def log(self, topic: str = "orders", partition: int = 0) -> PartitionLog:
        return self.directory.logs[topic, partition]


def new_world(path: Path, **config: Any) -> World:
    """A loaded, empty directory; keywords are LogConfig's."""
    path.mkdir(exist_ok=True)
    world = World(path, LogConfig(**config))
    world.load()
    return world


def batch(count: int = 1, *, timestamp: int = NOW_MS, value: bytes = b"value", key: bytes | None = b"key",
          producer: Producer | None = None, codec: int = 0, transactional: bool = False) -> memoryview:
    """A producer's batch of `count` records with timestamps `timestamp`, +1, ..."""
    records = [Record(index, timestamp + index, key, value) for index in range(count)]
    attributes = codec | (TRANSACTIONAL if transactional else 0)
    return memoryview(bytearray(build_batch(records, attributes=attributes, producer=producer or Producer())))


def sized_batch(size_bytes: int, **arguments: Any) -> memoryview:
    """One record, the whole batch exactly this long. Some sizes do not exist: where the record's own length
    field grows by a byte, a longer value jumps over one size."""
    value_size = size_bytes - len(batch(value=b"", **arguments))
    for shorter in range(8):
        made = batch(value=b"x" * max(value_size - shorter, 0), **arguments)
        if len(made) == size_bytes:
            return made
    raise AssertionError(f"no batch of one record has {size_bytes} bytes")


def marker(producer: Producer, *, commit: bool, coordinator_epoch: int = 0,
           timestamp: int = NOW_MS) -> memoryview:
    kind = CONTROL_COMMIT if commit else CONTROL_ABORT
    return memoryview(bytearray(build_end_transaction_batch(kind, coordinator_epoch, producer, timestamp)))


def append(log: PartitionLog, *batches: memoryview, now_ms: int = NOW_MS, epoch: int | None = None,
           **arguments: Any) -> list[StagedAppend]:
    """Stage and write as one group."""
    leader_epoch = log.leader_epoch if epoch is None else epoch
    staged = [log.stage_leader_append(each, leader_epoch, now_ms, **arguments) for each in batches]
    log.write_staged()
    return staged


def append_marker(log: PartitionLog, producer: Producer, *, commit: bool, **arguments: Any) -> StagedAppend:
    return append(log, marker(producer, commit=commit, **arguments), origin=AppendOrigin.COORDINATOR)[0]


def append_transactional(log: PartitionLog, producer: Producer, count: int = 1) -> StagedAppend:
    return append(log, batch(count, producer=producer, transactional=True), transaction_verified=True)[0]


def trusted_end(log: PartitionLog) -> TrustedEnd:
    """What the partition table would hold of this log."""
    return TrustedEnd(log.log_end_offset, log.active_base_offset, log.active_size_bytes)


def file_contents(path: str | Path) -> dict[str, bytes]:
    """Every file of a partition directory."""
    return {name: Path(path, name).read_bytes() for name in sorted(os.listdir(path))
            if os.path.isfile(os.path.join(path, name))}


def log_bytes(log: PartitionLog) -> bytes:
    """What the segments hold, in order."""
    return b"".join(Path(segment.log.path).read_bytes() for segment in log.segments)


def published(log: PartitionLog) -> tuple[object, ...]:
    """Everything the log says of itself, and its producer state."""
    return (log.log_start_offset, log.log_end_offset, log.first_unstable_offset, log.active_base_offset,
            log.active_size_bytes, [(each.base_offset, each.size_bytes) for each in log.segments],
            dict(log.producer_state.producers), dict(log.producer_state.ongoing),
            dict(log.producer_state.unreplicated), list(log.leader_epoch_cache.entries))


class FaultyFiles(OsFileLayer):
    """Fails the n-th call that needs room on the disk (create, write), after writing a part of it.

    calls: how many such calls there were since `fail_at`; written_part: of the failing write's bytes.
    """

    def __init__(self, error: int = errno.ENOSPC) -> None:
        self.error = error
        self.calls = 0
        self.failing_call: int | None = None
        self.written_part = 0.5
        self.full = False

    def fail_at(self, call: int | None) -> None:
        self.calls = 0
        self.full = False
        self.failing_call = call

    def fail_always(self) -> None:
        """The disk is full and stays so."""
        self.fail_at(None)
        self.full = True

    def _fails(self) -> bool:
        self.calls += 1
        return self.full or self.calls - 1 == self.failing_call

    def open_write(self, path: str, *, create: bool = True, truncate: bool = False,
                   exclusive: bool = False) -> int:
        if not os.path.exists(path) and self._fails():
            raise OSError(self.error, os.strerror(self.error), path)
        return super().open_write(path, create=create, truncate=truncate, exclusive=exclusive)

    def pwritev(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        if self._fails():
            data = b"".join(map(bytes, buffers))
            os.pwrite(fd, data[:int(len(data) * self.written_part)], position)
            raise OSError(self.error, os.strerror(self.error))
        return super().pwritev(fd, buffers, position)

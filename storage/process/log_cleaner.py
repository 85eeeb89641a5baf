"""The log cleaner of one directory: which log is compacted when, by helpers, and what becomes of failures.

What: every log.cleaner.backoff.ms the compacted logs are looked at, the dirtiest that is due goes to a helper
process; its answers swap in the cleaned segments (`cleaning_steps.py`), and at the end the checkpoint moves.
Retention of compacted logs is done here too, between cleanings, as in Kafka: never both on one log.
Why helpers: compaction decodes every record, and the writer thread serves the whole directory (REVIEW 6).

log.cleaner.threads, log.cleaner.dedupe.buffer.size, log.cleaner.io.buffer.size and
log.cleaner.io.max.bytes.per.second hold for the node; directories share them out evenly, but each has one
helper at least.

A log that cannot be cleaned is set aside with its reason and tried again, after longer and longer waits; the
cleaner goes on with the others. Nothing here ends the process but a disk that fails.
Runs in: storage, writer thread.
"""
from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from storage.cleaner.dirtiness import NO_LAG_MAX, CleanableLog, LogBounds, look_at
from storage.errors import StorageError
from storage.helpers.cleaner_main import ANSWER, FAILURE, payload_memfd
from storage.ipc.control import ControlClosedError, ControlError, ControlSocket, close_descriptors
from storage.log.directory import LogDirectory
from storage.log.failures import PASSING_ERRNOS, DirectoryFailed
from storage.log.log_config import LogConfig
from storage.log.log_segment import LogSegment
from storage.log.partition_log import PartitionLog
from storage.log.segment_walk import first_batch
from storage.process.cleaning_steps import (
    CleanerShare,
    CleaningAbandonedError,
    CleaningReport,
    CleaningSteps,
    HelperRequest,
    Steps,
    UncleanableError,
)

log = logging.getLogger(__name__)

PURPOSE: Final = "compaction"
RETRY_FACTOR: Final = 4
RETRY_MS_MAX: Final = 3_600_000
"""A damaged batch stays damaged until retention or an operator removes it: an hour costs little."""

Key = tuple[str, int]
Watch = Callable[[int, Callable[[], None]], None]


@dataclass(slots=True)
class SetAside:
    """An uncleanable log. retry_ms: monotonic time of the next attempt."""

    reason: str
    attempts: int
    retry_ms: int


class Look(NamedTuple):
    """What a look at a log that was not due depended on; as long as that stands, another look is idle."""

    active_base_offset: int
    stable_offset: int
    log_start_offset: int
    checkpoint: int | None
    config: LogConfig


@dataclass(slots=True)
class Running:
    """A cleaning and its helper. control None: the helper is still to come."""

    plan: CleaningSteps
    steps: Steps
    started_ms: int
    control: ControlSocket | None = None


class Surroundings(NamedTuple):
    """What the cleaner needs of the process. watch, unwatch: its loop. high_watermarks: what the front end
    published. changed(log): names or log start have moved, readers must hear of it."""

    ask_for_helper: Callable[[str], None]
    watch: Watch
    unwatch: Callable[[int], None]
    high_watermarks: Callable[[], Mapping[Key, int]]
    changed: Callable[[PartitionLog], None]
    monotonic_ms: Callable[[], int]
    wall_ms: Callable[[], int]


def helpers_of(threads: int, directory_count: int, index: int) -> int:
    """How many of log.cleaner.threads work for directory `index`."""
    return max(threads // directory_count + (index < threads % directory_count), 1)


def share_of(config: Any, directory_count: int) -> CleanerShare:
    """What one helper may use, so that all together keep within the configuration."""
    total = sum(helpers_of(config["log.cleaner.threads"], directory_count, index)
                for index in range(directory_count))
    return CleanerShare(config["log.cleaner.dedupe.buffer.size"] // total,
                        config["log.cleaner.io.buffer.load.factor"],
                        config["log.cleaner.io.buffer.size"] // total // 2,
                        config["log.cleaner.io.max.bytes.per.second"] / total)


class LogCleaner:
    """set_aside: uncleanable logs, by (topic, partition). reports: the newest cleaning of each log."""

    def __init__(self, directory: LogDirectory, helper_count: int, share: CleanerShare, backoff_ms: int,
                 surroundings: Surroundings) -> None:
        self.set_aside: dict[Key, SetAside] = {}
        self._directory = directory
        self._files = directory.environment.files
        self._helper_count = helper_count
        self._share = share
        self._backoff_ms = max(backoff_ms, 1)
        self._around = surroundings
        self._running: dict[PartitionLog, Running] = {}
        self._waiting: deque[Running] = deque()
        self._looks: dict[PartitionLog, Look] = {}

    # -- by the clock

    def run_pass(self) -> bool:
        """Retention of compacted logs, then as many cleanings as there are helpers for, the dirtiest first.

        False: there is no compacted log, nothing to do until something changes. Raises DirectoryFailed.
        """
        compacted = [each for each in self._directory.logs.values() if each.config.compact]
        self._forget_the_gone()
        if compacted:
            watermarks = self._around.high_watermarks()
            self._retain(compacted, watermarks)
            for each, cleanable in self._due(compacted, watermarks)[:self._helper_count - len(self._running)]:
                self._start(each, cleanable)
        return bool(compacted or self._running)

    def is_cleaning(self, partition_log: PartitionLog) -> bool:
        return partition_log in self._running

    def _forget_the_gone(self) -> None:
        logs = self._directory.logs
        self.set_aside = {key: aside for key, aside in self.set_aside.items() if key in logs}
        alive = set(map(id, logs.values()))
        self._looks = {each: look for each, look in self._looks.items() if id(each) in alive}
        for running in list(self._running.values()):
            try:
                running.plan.check()
            except CleaningAbandonedError as abandoned:
                self._abandon(running, str(abandoned))

    def _retain(self, compacted: list[PartitionLog], watermarks: Mapping[Key, int]) -> None:
        for each in compacted:
            if each in self._running:
                continue
            try:
                watermark = watermarks.get((each.topic, each.partition), 0)
                if each.delete_old_segments(self._around.wall_ms(), watermark):
                    self._around.changed(each)
            except OSError as error:
                log.warning("%s: retention: %s", each.path, error)

    def _due(self, compacted: list[PartitionLog],
             watermarks: Mapping[Key, int]) -> list[tuple[PartitionLog, CleanableLog]]:
        now_ms = self._around.monotonic_ms()
        due = []
        for each in compacted:
            key = (each.topic, each.partition)
            aside = self.set_aside.get(key)
            if each in self._running or key not in watermarks or (aside is not None and aside.retry_ms > now_ms):
                continue
            try:
                cleanable = self._look_at(each, watermarks[key])
            except (OSError, StorageError) as error:
                self._set_aside(each, error)
                continue
            if cleanable is not None:
                due.append((each, cleanable))
        return sorted(due, key=lambda item: item[1].ratio, reverse=True)

    def _look_at(self, partition_log: PartitionLog, high_watermark: int) -> CleanableLog | None:
        """None: not due."""
        key, config = (partition_log.topic, partition_log.partition), partition_log.config
        stable = _stable_offset(partition_log, high_watermark)
        checkpoint = self._directory.cleaner_offsets.get(key)
        look = Look(partition_log.active_base_offset, min(stable, partition_log.active_base_offset),
                    partition_log.log_start_offset, checkpoint, config)
        if self._looks.get(partition_log) == look:
            return None
        bounds = LogBounds(partition_log.log_start_offset, partition_log.log_end_offset, stable)
        cleanable = look_at(partition_log.segments, bounds, checkpoint, config, self._around.wall_ms(),
                            _first_timestamp)
        if cleanable.checkpoint_was_wrong:
            self._write_checkpoint(partition_log, cleanable.first_dirty_offset)
        if cleanable.is_due(config) and cleanable.cleanable_size_bytes:
            return cleanable
        if config.min_compaction_lag_ms == 0 and config.max_compaction_lag_ms >= NO_LAG_MAX:
            self._looks[partition_log] = look
        return None

    # -- one cleaning

    def _start(self, partition_log: PartitionLog, cleanable: CleanableLog) -> None:
        plan = CleaningSteps(partition_log, cleanable, self._share, self._files, self._around.wall_ms(),
                             self._is_wanted, self._around.changed)
        running = Running(plan, plan.steps(), self._around.monotonic_ms())
        self._running[partition_log] = running
        self._waiting.append(running)
        self._around.ask_for_helper(PURPOSE)

    def _is_wanted(self, partition_log: PartitionLog) -> bool:
        key = (partition_log.topic, partition_log.partition)
        return self._directory.logs.get(key) is partition_log and partition_log.config.compact

    def helper_arrived(self, sock: socket.socket) -> None:
        """For the cleaning that has waited longest; it ends at once if nobody waits any more."""
        if not self._waiting:
            sock.close()
            return
        running = self._waiting.popleft()
        running.control = control = ControlSocket(sock)
        self._around.watch(control.fileno(), lambda: self._serve(running))
        self._advance(running, lambda: next(running.steps))

    def _serve(self, running: Running) -> None:
        """The helper has answered, or died."""
        assert running.control is not None
        try:
            received = running.control.receive_nowait()
        except ControlClosedError:
            self._fail(running, UncleanableError("its helper process died"))
            return
        except ControlError as error:
            self._fail(running, UncleanableError(f"its helper process talks nonsense: {error}"))
            return
        if received is None:
            return
        message, fds = received
        close_descriptors(fds)
        if message["kind"] == ANSWER:
            self._advance(running, lambda: running.steps.send(message["result"]))
        else:
            self._fail(running, _failure(message))

    def _advance(self, running: Running, step: Callable[[], HelperRequest]) -> None:
        """The next request, or the end. Raises DirectoryFailed."""
        try:
            self._send(running, step())
        except StopIteration as done:
            self._finish(running, done.value)
        except DirectoryFailed:
            self._drop(running)
            raise
        except CleaningAbandonedError as abandoned:
            self._abandon(running, str(abandoned))
        except (OSError, StorageError, ControlError, UncleanableError) as error:
            self._fail(running, error)
        except Exception as error:
            log.exception("Compaction of %s", running.plan.log.path)
            self._fail(running, error)

    def _send(self, running: Running, request: HelperRequest) -> None:
        assert running.control is not None
        payload = payload_memfd(request.fields)
        try:
            running.control.send({"kind": request.kind, **request.extra}, [payload, *request.fds], wait_ms=0)
        finally:
            os.close(payload)

    def _finish(self, running: Running, report: CleaningReport) -> None:
        partition_log = running.plan.log
        self._drop(running)
        self.set_aside.pop((partition_log.topic, partition_log.partition), None)
        self._write_checkpoint(partition_log, report.end_offset)
        seconds = max(self._around.monotonic_ms() - running.started_ms, 1) / 1000
        log.info(
            "%s-%d compacted: offsets %d to %d were dirty; %.1f MB and %d records became %.1f MB and %d in %d "
            "segments, in %.1f s; %.0f %% of the offset map used%s", partition_log.topic, partition_log.partition,
            running.plan.cleanable.first_dirty_offset, report.end_offset, report.bytes_read / 1e6,
            report.records_read, report.bytes_written / 1e6, report.records_kept, report.groups, seconds,
            100 * report.utilization, f"; {report.invalid} records without key dropped" if report.invalid else "")
        self.run_pass()

    def _write_checkpoint(self, partition_log: PartitionLog, offset: int) -> None:
        """On a full disk the old one stands: some of the log is compacted once more."""
        try:
            self._directory.write_cleaner_offset((partition_log.topic, partition_log.partition), offset)
        except OSError as error:
            log.warning("%s: cleaner checkpoint not written: %s", self._directory.path, error)

    # -- endings

    def _fail(self, running: Running, error: Exception) -> None:
        """Set the log aside, unless it has changed so that a failure was to be expected."""
        try:
            running.plan.check()
        except CleaningAbandonedError as abandoned:
            self._abandon(running, str(abandoned))
            return
        self._drop(running)
        if isinstance(error, OSError) and error.errno not in PASSING_ERRNOS and not isinstance(
                error, FileNotFoundError):
            raise DirectoryFailed(running.plan.log.path, error, "compaction") from error
        self._set_aside(running.plan.log, error)

    def _set_aside(self, partition_log: PartitionLog, error: Exception) -> None:
        key = (partition_log.topic, partition_log.partition)
        before = self.set_aside.get(key)
        attempts = 1 if before is None else before.attempts + 1
        delay_ms = min(self._backoff_ms * RETRY_FACTOR ** min(attempts, 16), RETRY_MS_MAX)
        self.set_aside[key] = SetAside(str(error), attempts, self._around.monotonic_ms() + delay_ms)
        log.warning("%s-%d is not compacted for now (attempt %d): %s. Next attempt in %.0f s; the log grows "
                    "meanwhile", *key, attempts, error, delay_ms / 1000)

    def _abandon(self, running: Running, why: str) -> None:
        log.info("Compaction of %s-%d abandoned: %s", running.plan.log.topic, running.plan.log.partition, why)
        self._drop(running)

    def _drop(self, running: Running) -> None:
        """The helper ends when it sees its socket closed; the generator removes what it had begun."""
        if self._running.get(running.plan.log) is running:
            del self._running[running.plan.log]
        if running in self._waiting:
            self._waiting.remove(running)
        if running.control is not None:
            self._around.unwatch(running.control.fileno())
            running.control.close()
            running.control = None
        running.steps.close()

    def close(self) -> None:
        """Before the logs are closed: nothing may swap names any more."""
        for running in list(self._running.values()):
            self._drop(running)


def _failure(message: dict[str, Any]) -> Exception:
    if message["kind"] == FAILURE and message.get("errno"):
        return OSError(message["errno"], str(message.get("message")))
    return UncleanableError(str(message.get("message", message)))


def _stable_offset(partition_log: PartitionLog, high_watermark: int) -> int:
    """Up to where every transaction has ended below the high watermark, which the log may not have heard of yet."""
    state = partition_log.producer_state
    unreplicated = [first for first, last in state.unreplicated.items() if last >= high_watermark]
    return min([high_watermark, *unreplicated, *state.ongoing])


def _first_timestamp(segment: LogSegment) -> int:
    """Largest timestamp of its first batch."""
    batch = first_batch(segment.log.read, segment.size_bytes)
    segment.log.close()
    return -1 if batch is None else batch.max_timestamp

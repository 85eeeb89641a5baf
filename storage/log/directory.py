"""One entry of log.dirs: its partitions, checkpoints, retention, delayed deletions, start and clean stop.

Runs in: storage (writer thread; loading and closing use a pool of num.recovery.threads.per.data.dir threads
while nothing else runs). Owns every PartitionLog of the directory.

The marker `.kafka_cleanshutdown` goes before any log is loaded and comes back as the last act of `close`, only
if every log was loaded, closed and checkpointed. A partition that cannot be loaded (`failed`) is set aside:
its files and checkpoint entries stay as they are, the others work, and the next start is an unclean one.

Checkpoint entries of deleted partitions are dangerous to a new partition of the same name (a stale log start
would drop all its records after a crash), so `create_partition` never begins before they are gone.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import local
from typing import Final

from storage.checkpoint.clean_shutdown import take_clean_shutdown_marker, write_clean_shutdown_marker
from storage.checkpoint.offset_checkpoint import (
    CLEANER_OFFSET_CHECKPOINT,
    HIGH_WATERMARK_CHECKPOINT,
    LOG_START_OFFSET_CHECKPOINT,
    RECOVERY_POINT_CHECKPOINT,
    TopicPartition,
    read_offset_checkpoint,
    write_offset_checkpoint,
)
from storage.checkpoint.partition_metadata import PARTITION_METADATA, write_partition_metadata
from storage.errors import CorruptLogError, StorageError
from storage.log.environment import LogEnvironment, remove_tree
from storage.log.failures import DirectoryFailed, failure_of
from storage.log.file_names import (
    FOREIGN_DIRECTORIES,
    DirectoryKind,
    PartitionDirectoryName,
    UnknownDirectoryError,
    parse_partition_directory,
    partition_directory_name,
)
from storage.log.load_report import LoadReport
from storage.log.loader import LoadRequest, TrustedEnd, load_log
from storage.log.log_config import UNLIMITED, LogConfig
from storage.log.partition_log import ZERO_TOPIC_ID, PartitionLog
from storage.log.state_rebuild import Scan

# (loaded so far, all, partition, its report): after each partition, in the calling thread.
Progress = Callable[[int, int, TopicPartition, LoadReport], None]
TrustedEndOf = Callable[[str, int], TrustedEnd | None]

NO_HIGH_WATERMARK: Final = 0


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """For DescribeLogDirs and metrics. size_bytes counts log bytes, as Kafka does."""

    topic: str
    partition: int
    size_bytes: int
    segment_count: int
    log_start_offset: int
    log_end_offset: int


class LogDirectory:
    """logs: by (topic, partition). failed: partitions that could not be loaded, with the reason.

    cleaner_offsets: where the next compaction of a log begins, as on disk. was_clean: the marker was there at
    `load`. future_directories, stray_directories: names seen, left alone.
    """

    def __init__(self, path: str, environment: LogEnvironment, config_of: Callable[[str], LogConfig],
                 recovery_threads: int) -> None:
        """config_of(topic): its configuration now. recovery_threads: num.recovery.threads.per.data.dir."""
        self.path = path
        self.environment = environment
        self.logs: dict[TopicPartition, PartitionLog] = {}
        self.failed: dict[TopicPartition, StorageError] = {}
        self.cleaner_offsets: dict[TopicPartition, int] = {}
        self.was_clean = False
        self.future_directories: list[str] = []
        self.stray_directories: list[str] = []
        self._config_of = config_of
        self._recovery_threads = max(recovery_threads, 1)
        self._files = environment.files
        self._recovery_points: dict[TopicPartition, int] = {}
        self._log_starts: dict[TopicPartition, int] = {}
        self._high_watermarks: dict[TopicPartition, int] = {}
        self._stale_checkpoint_entries: set[TopicPartition] = set()

    # -- start

    def load(self, *, trusted_end_of: TrustedEndOf | None = None,
             scan_for_thread: Callable[[], Scan] | None = None, progress: Progress | None = None) -> None:
        """Load every partition. Raises DirectoryFailed, a passing OSError, UnknownDirectoryError for a
        directory that is no partition, CorruptLogError for an unreadable high-watermark checkpoint.

        trusted_end_of: only after a death of the storage process alone, what each partition had published.
        scan_for_thread: called once in each pool thread, for a scan of its own (a helper process).
        """
        with self._disk("reading the log directory"):
            live = self._list_partitions()
            self.was_clean = take_clean_shutdown_marker(self.path, self._files)
            self._read_checkpoints()
        worker = _LoadWorker(self, trusted_end_of, scan_for_thread)
        with ThreadPoolExecutor(self._recovery_threads, thread_name_prefix="log-recovery") as pool:
            futures = {pool.submit(worker.load, name): name for name in live}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    self._take_loaded(futures[future], future, done, len(futures), progress)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        known = {*self._recovery_points, *self._log_starts, *self._high_watermarks, *self.cleaner_offsets}
        self._stale_checkpoint_entries = known - self.logs.keys() - self.failed.keys()

    def _list_partitions(self) -> list[PartitionDirectoryName]:
        live: dict[TopicPartition, PartitionDirectoryName] = {}
        for entry in self._files.list_directory(self.path):
            if not entry.is_directory or entry.name in FOREIGN_DIRECTORIES:
                continue
            name = parse_partition_directory(entry.name)
            if name.kind is DirectoryKind.DELETE:
                delay_ms = self._config_of(name.topic).file_delete_delay_ms
                self.environment.deletes.add([f"{self.path}/{entry.name}"], delay_ms, directories=True)
            elif name.kind is DirectoryKind.FUTURE:
                self.future_directories.append(entry.name)
            elif name.kind is DirectoryKind.STRAY:
                self.stray_directories.append(entry.name)
            elif entry.name != partition_directory_name(name.topic, name.partition):
                raise UnknownDirectoryError(entry.name)
            else:
                live[name.topic, name.partition] = name
        return list(live.values())

    def _read_checkpoints(self) -> None:
        """Without the first two more is verified or kept than necessary, without the last one more is compacted;
        that is safe. Not so a lost high watermark."""
        self._recovery_points = self._read_or_empty(RECOVERY_POINT_CHECKPOINT)
        self._log_starts = self._read_or_empty(LOG_START_OFFSET_CHECKPOINT)
        self._high_watermarks = read_offset_checkpoint(self._path_of(HIGH_WATERMARK_CHECKPOINT), self._files)
        self.cleaner_offsets = self._read_or_empty(CLEANER_OFFSET_CHECKPOINT)

    def _read_or_empty(self, name: str) -> dict[TopicPartition, int]:
        try:
            return read_offset_checkpoint(self._path_of(name), self._files)
        except CorruptLogError:
            return {}

    def _take_loaded(self, name: PartitionDirectoryName, future: Future[tuple[PartitionLog, LoadReport]],
                     done: int, total: int, progress: Progress | None) -> None:
        key = (name.topic, name.partition)
        report = LoadReport()
        try:
            self.logs[key], report = future.result()
        except DirectoryFailed:
            raise
        except StorageError as error:
            self.failed[key] = error
        delay_ms = self._config_of(name.topic).file_delete_delay_ms
        self.environment.deletes.add(report.retired_paths, delay_ms)
        if progress is not None:
            progress(done, total, key, report)

    def load_request(self, topic: str, partition: int, trusted_end: TrustedEnd | None,
                     scan: Scan | None) -> LoadRequest:
        key = (topic, partition)
        path = f"{self.path}/{partition_directory_name(topic, partition)}"
        return LoadRequest(path, self._config_of(topic), self.environment,
                           clean=self.was_clean and trusted_end is None,
                           log_start_offset=self._log_starts.get(key, 0),
                           recovery_point=self._recovery_points.get(key, 0), trusted_end=trusted_end, scan=scan)

    def checkpoint_high_watermark(self, topic: str, partition: int) -> int:
        """As read at load, within [log start, log end]; the log start if there was none."""
        log = self.logs[topic, partition]
        high_watermark = self._high_watermarks.get((topic, partition), NO_HIGH_WATERMARK)
        return min(max(high_watermark, log.log_start_offset), log.log_end_offset)

    # -- partitions

    def create_partition(self, topic: str, partition: int, topic_id: bytes) -> PartitionLog:
        """A new empty log, with its partition.metadata durable. Raises as write_staged: then none is left."""
        key = (topic, partition)
        if key in self.logs or key in self.failed:
            raise StorageError(f"{topic}-{partition} is already in {self.path}")
        if key in self._stale_checkpoint_entries:
            self._forget_checkpoint_entries()
        path = f"{self.path}/{partition_directory_name(topic, partition)}"
        request = LoadRequest(path, self._config_of(topic), self.environment, clean=True)
        try:
            with self._disk(f"creating {path}"):
                self._files.make_directory(path)
                if topic_id != ZERO_TOPIC_ID:
                    write_partition_metadata(f"{path}/{PARTITION_METADATA}", topic_id, self._files)
            loaded = load_log(request)
        except OSError:
            with suppress(OSError):  # the first error is the one that says what is wrong
                remove_tree(self._files, path)
            raise
        log = PartitionLog(topic, partition, path, request.config, self.environment, loaded)
        self.logs[key] = log
        return log

    def delete_partition(self, topic: str, partition: int, unique_id: str) -> None:
        """Rename to `-delete` now, remove after file.delete.delay.ms. unique_id: 32 random hex digits."""
        key = (topic, partition)
        log = self.logs[key]
        path = log.rename_to_delete(unique_id)
        del self.logs[key]
        self._stale_checkpoint_entries.add(key)
        self.environment.deletes.add([path], log.config.file_delete_delay_ms, directories=True)

    def run_delayed_deletes(self) -> int:
        """Remove what is due; the number of files and directories removed."""
        with self._disk("removing deleted files"):
            return self.environment.deletes.run()

    def retention_pass(self, now_ms: int, high_watermark_of: Callable[[str, int], int],
                       is_cleaning: Callable[[PartitionLog], bool] = lambda _: False) -> int:
        """Delete old segments of every log but compacted ones, whose retention goes with their compaction, and
        forget expired producers; the number of segments deleted. is_cleaning: a compaction of it still runs,
        though its policy has changed since."""
        count = 0
        for (topic, partition), log in self.logs.items():
            if not log.config.compact and not is_cleaning(log):
                count += log.delete_old_segments(now_ms, high_watermark_of(topic, partition))
            log.remove_expired_producers(now_ms)
        return count

    def logs_due_for_flush(self) -> list[PartitionLog]:
        """flush.ms: logs with unflushed records whose last flush is that long ago."""
        now_ms = self.environment.monotonic_ms()
        return [log for log in self.logs.values()
                if log.config.flush_interval_ms != UNLIMITED and log.unflushed_messages
                and now_ms - log.last_flush_monotonic_ms >= log.config.flush_interval_ms]

    def status(self) -> list[PartitionStatus]:
        return [PartitionStatus(topic, partition, log.size_bytes, len(log.segments), log.log_start_offset,
                                log.log_end_offset)
                for (topic, partition), log in self.logs.items()]

    # -- checkpoints

    def write_recovery_points(self) -> None:
        """Raises the OSError of a full disk (the old file stands: try again later) or DirectoryFailed."""
        offsets = {key: log.recovery_point for key, log in self.logs.items()}
        self._recovery_points = self._write(RECOVERY_POINT_CHECKPOINT, offsets, self._recovery_points)

    def write_log_start_offsets(self) -> None:
        """Only where the log start lies above the first segment's base: else the file names tell it."""
        offsets = {key: log.log_start_offset for key, log in self.logs.items()
                   if log.log_start_offset > log.segments[0].base_offset}
        self._log_starts = self._write(LOG_START_OFFSET_CHECKPOINT, offsets, self._log_starts)

    def write_high_watermarks(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """A log without a value keeps the one read at load."""
        offsets = {key: high_watermarks.get(key, self._high_watermarks.get(key, NO_HIGH_WATERMARK))
                   for key in self.logs}
        self._high_watermarks = self._write(HIGH_WATERMARK_CHECKPOINT, offsets, self._high_watermarks)

    def write_checkpoints(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        self.write_recovery_points()
        self.write_log_start_offsets()
        self.write_high_watermarks(high_watermarks)
        if self.cleaner_offsets.keys() - self.logs.keys() - self.failed.keys():
            self._drop_cleaner_offsets()
        self._stale_checkpoint_entries.clear()

    def _drop_cleaner_offsets(self) -> None:
        """Of partitions that are gone."""
        offsets = {key: offset for key, offset in self.cleaner_offsets.items() if key in self.logs}
        self.cleaner_offsets = self._write(CLEANER_OFFSET_CHECKPOINT, offsets, self.cleaner_offsets)

    def write_cleaner_offset(self, key: TopicPartition, offset: int) -> None:
        """The next compaction of this log begins at `offset`. Logs that are gone lose their entry, as in Kafka."""
        offsets = {each: self.cleaner_offsets[each] for each in self.logs if each in self.cleaner_offsets}
        if key in self.logs:
            offsets[key] = offset
        self.cleaner_offsets = self._write(CLEANER_OFFSET_CHECKPOINT, offsets, self.cleaner_offsets)

    def cut_cleaner_offset(self, key: TopicPartition, offset: int) -> None:
        """The log was truncated to `offset`: what is written there from now on was never compacted."""
        if self.cleaner_offsets.get(key, 0) > offset:
            self.write_cleaner_offset(key, offset)

    def _write(self, name: str, offsets: dict[TopicPartition, int],
               before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """What is on disk afterwards. Partitions set aside keep their entry."""
        for key in self.failed:
            if key in before:
                offsets[key] = before[key]
        with self._disk(f"writing {name}"):
            write_offset_checkpoint(self._path_of(name), offsets, self._files)
        return offsets

    def _forget_checkpoint_entries(self) -> None:
        self.write_checkpoints(self._high_watermarks)

    # -- stop

    def close(self, high_watermarks: Mapping[TopicPartition, int]) -> list[Exception]:
        """Flush and close every log, write checkpoints and, if all went well, the marker.

        What went wrong; an empty list means that the directory is clean. Partitions set aside at load count:
        their state is not what a clean directory promises.
        """
        errors: list[Exception] = list(self.failed.values())
        with ThreadPoolExecutor(self._recovery_threads, thread_name_prefix="log-closing") as pool:
            for future in as_completed([pool.submit(log.close) for log in self.logs.values()]):
                error = future.exception()
                if isinstance(error, (OSError, StorageError)):
                    errors.append(error)
                elif error is not None:
                    raise error
        try:
            self.write_checkpoints(high_watermarks)
            if not errors:
                with self._disk("writing the clean-shutdown marker"):
                    write_clean_shutdown_marker(self.path, files=self._files)
        except (OSError, DirectoryFailed) as error:
            errors.append(error)
        return errors

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextmanager
    def _disk(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise failure_of(self.path, error, doing) from error


class _LoadWorker:
    """What runs in the threads of the loading pool; shares nothing but what it is given here."""

    def __init__(self, directory: LogDirectory, trusted_end_of: TrustedEndOf | None,
                 scan_for_thread: Callable[[], Scan] | None) -> None:
        self._directory = directory
        self._trusted_end_of = trusted_end_of
        self._scan_for_thread = scan_for_thread
        self._thread = local()

    def load(self, name: PartitionDirectoryName) -> tuple[PartitionLog, LoadReport]:
        trusted_end = self._trusted_end_of(name.topic, name.partition) if self._trusted_end_of else None
        request = self._directory.load_request(name.topic, name.partition, trusted_end, self._scan())
        loaded = load_log(request)
        log = PartitionLog(name.topic, name.partition, request.path, request.config,
                           self._directory.environment, loaded)
        return log, request.report

    def _scan(self) -> Scan | None:
        if self._scan_for_thread is None:
            return None
        if not hasattr(self._thread, "scan"):
            self._thread.scan = self._scan_for_thread()
        scan: Scan = self._thread.scan
        return scan

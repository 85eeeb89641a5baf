"""One storage process: sole writer of one log directory. Loads it, serves the ring, keeps it, closes it.

What: start (is it ours, load, give out slots), the loop (ring entries, control messages, finished syncs,
timers), the clean stop. Blocking code and one writer thread; pool threads only wait for the disk.
Runs in: storage. Owner of everything it builds.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from storage.errors import StorageError
from storage.fs import OS_FILES
from storage.ipc.contexts import Doorbells, StorageContext
from storage.ipc.control import ControlClosedError
from storage.ipc.entries import SubmissionKind
from storage.ipc.ring import CompletionProducer, SubmissionConsumer
from storage.log.directory import LogDirectory
from storage.log.environment import LogEnvironment
from storage.log.failures import DirectoryFailed
from storage.log.load_report import LoadReport
from storage.log.loader import TrustedEnd
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.process.append_pass import AppendPass
from storage.process.commands import Commands
from storage.process.front_end_dialog import FrontEndDialog
from storage.process.group_commit import GroupCommit
from storage.process.housekeeping import Housekeeping
from storage.process.identity import claim
from storage.process.log_cleaner import PURPOSE as COMPACTION_PURPOSE
from storage.process.log_cleaner import LogCleaner, Surroundings, helpers_of, share_of
from storage.process.recovery_scans import PURPOSE, RecoveryScans
from storage.process.slots import SlotMap, identity_of

log = logging.getLogger(__name__)

APPEND = int(SubmissionKind.APPEND)
SYNC_THREADS = 4
"""Group commits of different partitions run side by side; a disk gains nothing from many more."""

PROGRESS_INTERVAL_S = 1.0


class Stopped(Exception):  # noqa: N818 - the supervisor asked
    """Unwinds the loop for a clean stop."""


class StorageProcess:
    """See the module. `run` returns the exit code."""

    def __init__(self, context: StorageContext) -> None:
        self._context = context
        self._control = context.control
        config = context.config
        environment = LogEnvironment(
            OS_FILES, now_ms=_wall_ms, monotonic_ms=_monotonic_ms, random_below=random.SystemRandom().randrange
        )
        self._topic_configs: dict[str, LogConfig] = {}
        self._default_config = self._make_config(config.resolve_topic({}))
        self._directory = LogDirectory(
            context.directory, environment, self._config_of, config["num.recovery.threads.per.data.dir"]
        )
        self._table = context.partition_table()
        self._slots = SlotMap(self._table, context.index, frozenset(context.quarantined))
        self._scans = RecoveryScans(lambda: self._ask_for_helper(PURPOSE))
        self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync")
        self._group_commit = GroupCommit(self._pool)
        self._ring = context.link()
        self._poller = select.poll()
        self._serving: dict[int, Callable[[], None]] = {}
        self._ring_fd = -1
        self._is_loaded = False
        self._loaded_text = "reading the directory"
        self._submissions: SubmissionConsumer | None = None
        self._completions: CompletionProducer | None = None
        arena = context.arena_view()
        self._append_pass = AppendPass(self._slots, arena, self._ring, self._group_commit)
        self._commands = Commands(
            self._directory, self._slots, arena, self._group_commit, self._set_config, self._watch
        )
        self._dialog = FrontEndDialog(context.front_end_socket, self._directory, self._slots)
        self._housekeeping = Housekeeping(
            config, self._directory, self._slots, self._table, self._group_commit, _monotonic_ms, _wall_ms
        )
        self._cleaner = self._make_cleaner() if config["log.cleaner.enable"] else None

    def _make_cleaner(self) -> LogCleaner:
        config, backoff_ms = self._context.config, self._context.config["log.cleaner.backoff.ms"]
        count = len(config.log_dirs)
        surroundings = Surroundings(
            self._ask_for_helper, self._watch_fd, self._unwatch_fd, self._housekeeping.high_watermarks,
            self._housekeeping.note_changed, _monotonic_ms, _wall_ms,
        )  # fmt: skip
        helper_count = helpers_of(config["log.cleaner.threads"], count, self._context.index)
        cleaner = LogCleaner(self._directory, helper_count, share_of(config, count), backoff_ms, surroundings)
        self._housekeeping.add_cleaner(cleaner, backoff_ms, _monotonic_ms())
        return cleaner

    def run(self) -> int:
        """0 after a clean stop."""
        try:
            claim(self._context.directory, self._context.cluster_id, self._context.broker_id, _wall_ms())
            self._load()
            self._attach(self._context.doorbells, self._context.generation)
            self._control.send({"kind": "loaded"})
            self._loop()
        except Stopped:
            return self._close()
        except DirectoryFailed as failure:
            log.error("%s", failure)
            self._control.send({"kind": "offline", "why": str(failure)})
        except OSError as failure:
            log.error("%s", failure)
            self._control.send({"kind": "offline", "why": str(failure)})
        except StorageError as failure:
            log.error("%s", failure)
            self._control.send({"kind": "failed", "why": str(failure)})
        except ControlClosedError:
            log.error("The supervisor is gone; stopping without a clean stop")
        return 1

    # Configuration

    def _make_config(self, resolved: dict[str, Any]) -> LogConfig:
        config = self._context.config
        return LogConfig.from_topic_config(
            resolved,
            validate_all_records=config["ottla.validate.records"] == "full",
            producer_id_expiration_ms=config["producer.id.expiration.ms"],
        )

    def _config_of(self, topic: str) -> LogConfig:
        return self._topic_configs.get(topic, self._default_config)

    def _set_config(self, topic: str, resolved: dict[str, Any]) -> LogConfig:
        made = self._topic_configs[topic] = self._make_config(resolved)
        return made

    # Start

    def _load(self) -> None:
        """Load in a thread, so that this one can pass helpers on, report progress and hear a stop."""
        remembered = self._slots.remembered() if self._context.restarted else {}
        trusted = {
            identity: TrustedEnd(half.log_end_offset, half.active_base_offset, half.active_position)
            for identity, (_, half) in remembered.items()
        }

        def trusted_end_of(topic: str, partition: int) -> TrustedEnd | None:
            return trusted.get(identity_of(topic, partition))

        with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
            loading = loader.submit(
                self._directory.load,
                trusted_end_of=trusted_end_of if self._context.restarted else None,
                scan_for_thread=self._scans.for_thread,
                progress=self._on_loaded,
            )
            self._wait_reporting(loading, lambda: self._loaded_text)
        self._is_loaded = True
        self._scans.close()
        for partition_log in self._directory.logs.values():
            identity = identity_of(partition_log.topic, partition_log.partition)
            slot = remembered[identity][0] if identity in remembered else None
            self._slots.assign(partition_log, slot)
            self._watch(partition_log)
        self._slots.forget_absent()
        for (topic, partition), error in self._directory.failed.items():
            log.error("%s-%d is set aside: %s", topic, partition, error)

    def _on_loaded(self, done: int, total: int, key: tuple[str, int], report: LoadReport) -> None:
        self._loaded_text = f"loaded {done} of {total} partitions"
        for truncation in report.truncations:
            log.warning("%s", truncation)
        for repair in report.repairs:
            log.info("%s", repair)
        if report.segments_scanned:
            log.info("%s-%d recovered: %d segments, %d bytes read", *key, report.segments_scanned,
                     report.bytes_scanned)  # fmt: skip

    def _wait_reporting(self, work: Future[Any], text: Any) -> Any:
        """The result of `work`; meanwhile progress goes to the supervisor and its messages are handled."""
        poller = select.poll()
        poller.register(self._control.fileno(), select.POLLIN)
        next_report_s = time.monotonic() + PROGRESS_INTERVAL_S
        while not work.done():
            poller.poll(10)
            while (received := self._control.receive_nowait()) is not None:
                self._on_control(*received)
            if time.monotonic() >= next_report_s:
                next_report_s += PROGRESS_INTERVAL_S
                self._control.send({"kind": "progress", "text": text()})
        return work.result()

    def _ask_for_helper(self, purpose: str) -> None:
        self._control.send({"kind": "helper_wanted", "purpose": purpose})

    def _watch(self, partition_log: PartitionLog) -> None:
        """Readers must see a name change announced before it happens and ended after it."""
        partition_log.publish_version = lambda _: self._slots.publish(partition_log)

    def _attach(self, doorbells: Doorbells, generation: int) -> None:
        """Rings of a new generation."""
        self._doorbells = doorbells
        self._submissions, self._completions = self._context.open_rings_of(doorbells, generation)

    # Loop

    def _loop(self) -> None:
        poller, housekeeping = self._poller, self._housekeeping
        serve = self._serving
        self._watch_fd(self._control.fileno(), self._serve_control)
        self._watch_fd(self._context.front_end_socket.fileno(), self._dialog.serve)
        self._watch_fd(self._group_commit.fileno(), self._take_rounds)
        self._register_ring()
        while True:
            ready = poller.poll(housekeeping.timeout_ms(_monotonic_ms()))
            for fd, _ in ready:
                if fd in serve:
                    serve[fd]()
                elif fd == self._ring_fd:
                    self._serve_ring()
            housekeeping.run_due(_monotonic_ms(), self._completions)
            self._flush_completions()

    def _watch_fd(self, fd: int, serve: Callable[[], None]) -> None:
        self._serving[fd] = serve
        self._poller.register(fd, select.POLLIN)

    def _unwatch_fd(self, fd: int) -> None:
        del self._serving[fd]
        self._poller.unregister(fd)

    def _serve_control(self) -> None:
        while (received := self._control.receive_nowait()) is not None:
            self._on_control(*received)

    def _register_ring(self) -> None:
        if self._submissions is not None:
            self._ring_fd = self._submissions.fileno()
            self._poller.register(self._ring_fd, select.POLLIN)

    def _serve_ring(self) -> None:
        """Everything the doorbell announced, in order: runs of appends together, the rest one by one."""
        submissions, completions = self._submissions, self._completions
        if submissions is None or completions is None:
            return  # the front end died in this very pass
        entries = submissions.take()
        start = 0
        while start < len(entries):
            end = start
            while end < len(entries) and entries[end][0] == APPEND:
                end += 1
            if end > start:
                run = entries if end - start == len(entries) else entries[start:end]
                touched = self._append_pass.run(run, completions, _wall_ms())
                self._flush_completions()
                self._housekeeping.after_appends(touched)
            else:
                self._commands.run(entries[start], completions)
                end += 1
            start = end
        self._flush_completions()
        self._housekeeping.appended(_monotonic_ms())

    def _flush_completions(self) -> None:
        if self._completions is not None:
            self._completions.flush()

    def _take_rounds(self) -> None:
        """Syncs that have ended: answer those who waited for them."""
        for finished in self._group_commit.finished():
            if finished.error is not None:
                raise finished.error
            if self._completions is not None:
                for completion in finished.completions:
                    self._completions.put(*completion)
            self._housekeeping.flushed(_monotonic_ms())
        self._flush_completions()

    # Supervisor

    def _on_control(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["kind"]:
            case "stop":
                raise Stopped
            case "helper":
                self._helper_arrived(message.get("purpose"), socket.socket(fileno=fds[0]))
            case "front_end_died":
                self._front_end_died(message["generation"])
            case "front_end_started":
                self._doorbells.close()
                self._attach(Doorbells.from_fds(fds), message["generation"])
                self._register_ring()
            case unknown:
                log.error("Control message of unknown kind %r", unknown)

    def _helper_arrived(self, purpose: str | None, sock: socket.socket) -> None:
        if purpose == COMPACTION_PURPOSE and self._cleaner is not None:
            self._cleaner.helper_arrived(sock)
        else:
            self._scans.helper_arrived(sock)

    def _front_end_died(self, generation: int) -> None:
        """Nothing of the old ring is read any more; syncs under way end, their answers have no reader."""
        if self._submissions is not None:
            self._poller.unregister(self._ring_fd)
        self._submissions = self._completions = None
        self._wait_for_syncs()
        self._control.send({"kind": "drained", "generation": generation})

    def _wait_for_syncs(self) -> None:
        poller = select.poll()
        poller.register(self._group_commit.fileno(), select.POLLIN)
        while not self._group_commit.idle:
            poller.poll(1000)
            for finished in self._group_commit.finished():
                if finished.error is not None:
                    raise finished.error

    # Stop

    def _close(self) -> int:
        """Flush, snapshot, checkpoint; the marker only if all of it succeeded."""
        if not self._is_loaded:
            log.warning("%s: stopped while loading; the next start recovers it", self._context.directory)
            return 0
        if self._cleaner is not None:
            self._cleaner.close()
        try:
            self._wait_for_syncs()
            watermarks = self._housekeeping.high_watermarks()
            with ThreadPoolExecutor(1, thread_name_prefix="close") as closer:
                closing = closer.submit(self._directory.close, watermarks)
                problems = self._wait_closing(closing)
        except (StorageError, OSError) as failure:
            problems = [failure]
        for problem in problems:
            log.error("Not a clean stop: %s", problem)
        return 1 if problems else 0

    def _wait_closing(self, closing: Future[list[Exception]]) -> list[Exception]:
        next_report_s = time.monotonic() + PROGRESS_INTERVAL_S
        while not closing.done():
            time.sleep(0.002)
            if time.monotonic() >= next_report_s:
                next_report_s += PROGRESS_INTERVAL_S
                self._control.send({"kind": "progress", "text": "flushing and closing logs"})
        return closing.result()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def storage_main(context: StorageContext) -> int:
    """Entry point, called by the supervisor's composition root after the fork."""
    return StorageProcess(context).run()

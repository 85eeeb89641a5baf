"""The supervisor's shell: one poll loop that turns what happens into events and actions into system calls.

Runs in: supervisor; no trio, no threads, nothing that blocks but poll. Owns the children and their control
sockets. What to do is decided in lifecycle.py.
"""
from __future__ import annotations

import logging
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import setproctitle

from broker.supervisor import log_lines
from broker.supervisor.children import (
    OOM_SCORE_ADJUST_HELPER,
    STOP_SIGNALS,
    Child,
    OomCounter,
    death_cause,
    freeze_heap,
    start_child,
)
from broker.supervisor.composition import Composition, production
from broker.supervisor.directory_locks import LogDirectory, prepare_directories
from broker.supervisor.errors import StartError
from broker.supervisor.events import (
    CONTROLLER,
    FRONT_END,
    Action,
    AnnounceReady,
    Attachment,
    Begin,
    DeadlinePassed,
    DeathCause,
    Event,
    Exit,
    ForkController,
    ForkFrontEnd,
    ForkHelper,
    ForkStorage,
    Kill,
    Level,
    MessageReceived,
    Notice,
    Notify,
    ProcessDied,
    ProcessId,
    ResetLink,
    Role,
    Say,
    Send,
    StopRequested,
    storage,
)
from broker.supervisor.lifecycle import Lifecycle
from broker.supervisor.listening_sockets import bind_listeners, describe
from broker.supervisor.service_manager import ServiceManager
from broker.supervisor.shared_objects import ARENA_RESERVE_SHARE, SharedObjects, arena_budget_bytes, fds_of
from broker.supervisor.start_lines import start_lines
from storage.ipc.contexts import ControllerContext, FrontEndContext, StorageContext, StorageLink
from storage.ipc.control import (
    ControlClosedError,
    ControlFormatError,
    ControlSocket,
    close_descriptors,
)

EXIT_CODE_START_FAILED = 1
VOICELESS_MS_MAX = 5000
"""From the end of a child's control socket to its own end; usually the kernel needs a millisecond."""
MESSAGES_PER_TURN_MAX = 64
"""Read from one child before the others get their turn."""
_LEVELS = {Level.INFO: logging.INFO, Level.WARN: logging.WARNING, Level.ERROR: logging.ERROR}
_log = logging.getLogger("ottla.supervisor")


def run_node(config: Any, composition: Composition | None = None) -> int:
    """Start a node and run it until it stops; the exit code. Nothing is forked when a StartError is met."""
    log_lines.configure("supervisor")
    setproctitle.setproctitle("ottla: supervisor")
    try:
        directories = prepare_directories(config.log_dirs)
        listeners = bind_listeners(config.listeners, config["socket.listen.backlog.size"],
                                   _receive_buffer_bytes(config))
        shared = SharedObjects(len(directories), config["socket.request.max.bytes"])
    except StartError as error:
        _log.error("cannot start: %s", error)
        return EXIT_CODE_START_FAILED
    except OSError as error:
        _log.error("cannot start: shared memory or descriptors: %s", error)
        return EXIT_CODE_START_FAILED
    _raise_descriptor_limit()
    composition = composition or production()
    composition.preload()
    freeze_heap()
    return Node(config, composition, directories, listeners, shared).run()


def _raise_descriptor_limit() -> None:
    """To what the system allows, as the JVM does: every connection and open segment needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _receive_buffer_bytes(config: Any) -> int:
    """Only if the operator asked for it: a fixed buffer ends the kernel's own tuning of it."""
    return config["socket.receive.buffer.bytes"] if "socket.receive.buffer.bytes" in config.explicit else -1


class Node:
    """The loop. Fixed at start: config, composition, directories, listeners, shared objects."""

    def __init__(self, config: Any, composition: Composition, directories: list[LogDirectory],
                 listeners: list[tuple[Any, socket.socket]], shared: SharedObjects) -> None:
        self._config = config
        self._composition = composition
        self._directories = directories
        self._listeners = listeners
        self._shared = shared
        offline = {directory.index: directory.offline_reason for directory in directories
                   if directory.offline_reason is not None}
        recovery_threads = config["num.recovery.threads.per.data.dir"]
        helper_count_max = max(recovery_threads * len(directories), 2 * (os.cpu_count() or 1))
        if config["log.cleaner.enable"]:  # beside the others: a compaction may take an hour
            helper_count_max += max(config["log.cleaner.threads"], len(directories))
        self._lifecycle = Lifecycle([directory.path for directory in directories], offline, helper_count_max,
                                    {listener.name: sock.getsockname()[1] for listener, sock in listeners})
        self._service_manager = ServiceManager(os.environ)
        self._children: dict[ProcessId, Child] = {}
        self._by_fd: dict[int, Child] = {}
        self._poller = select.poll()
        self._oom_counter = OomCounter()
        self._identity: tuple[str, int] | None = None
        self._exit_code: int | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._failed_forks: list[ProcessDied] = []
        self._voiceless: dict[Child, int] = {}

    def run(self) -> int:
        """The whole life of the node."""
        self._listen_to_signals()
        self._poller.register(self._wake_reader.fileno(), select.POLLIN)
        self._handle(Begin())
        while self._exit_code is None:
            self._turn()
        self._end_helpers()
        signal.set_wakeup_fd(-1)
        _log.info("stopped, exit code %d", self._exit_code)
        return self._exit_code

    # Events

    def _turn(self) -> None:
        ready = self._poller.poll(self._timeout_ms())
        if self._service_manager.watchdog_interval_ms is not None:
            self._service_manager.alive()
        if any(fd == self._wake_reader.fileno() for fd, _ in ready):
            self._read_signals()
        for fd, child in [(fd, self._by_fd.get(fd)) for fd, _ in ready]:
            if child is None or self._by_fd.get(fd) is not child:
                continue  # an earlier event of this turn ended it; its number may be another child's now
            if fd == child.pidfd:
                self._bury(child)
            else:
                self._read_control(child, MESSAGES_PER_TURN_MAX)
        self._kill_voiceless()
        deadline_ms = self._lifecycle.next_deadline_ms()
        if deadline_ms is not None and deadline_ms <= _now_ms():
            self._handle(DeadlinePassed())

    def _timeout_ms(self) -> int | None:
        """None: until something happens."""
        deadlines = [*self._voiceless.values()]
        deadline_ms = self._lifecycle.next_deadline_ms()
        if deadline_ms is not None:
            deadlines.append(deadline_ms)
        waits = [max(0, at_ms - _now_ms()) for at_ms in deadlines]
        if self._service_manager.watchdog_interval_ms is not None:
            waits.append(self._service_manager.watchdog_interval_ms)
        return min(waits, default=None)

    def _kill_voiceless(self) -> None:
        """A child that closed its control socket and lives on cannot be stopped in order."""
        for child in [child for child, at_ms in self._voiceless.items() if at_ms <= _now_ms()]:
            del self._voiceless[child]
            child.kill()

    def _listen_to_signals(self) -> None:
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda _number, _frame: None)

    def _read_signals(self) -> None:
        for number in self._wake_reader.recv(64):
            if number in STOP_SIGNALS:
                self._handle(StopRequested(signal.Signals(number).name))

    def _read_control(self, child: Child, count_max: int) -> None:
        """Up to count_max messages; a closed or senseless socket is the child's end."""
        for _ in range(count_max):
            if child.control is None or self._children.get(child.process) is not child:
                return
            try:
                received = child.control.receive_nowait()
            except ControlClosedError:
                self._close_control(child)
                self._voiceless[child] = _now_ms() + VOICELESS_MS_MAX
                return
            except ControlFormatError as error:
                _log.error("%s sent no control message (%s); killing it", child.process, error)
                child.kill()
                return
            if received is None:
                return
            close_descriptors(received[1])
            self._handle(MessageReceived(child.process, received[0]))

    def _bury(self, child: Child) -> None:
        """Its last words, then its death."""
        while child.control is not None and self._read_last_word(child):
            pass
        _, status = os.waitpid(child.pid, 0)
        cause, detail = death_cause(status, child.killed, self._oom_counter.rose())
        self._forget(child)
        slot = None
        if child.process.role is Role.STORAGE:
            slot = self._shared.links[child.process.index].ring.working_slot()
        self._handle(ProcessDied(child.process, cause, f"pid {child.pid}, {detail}", slot))

    def _read_last_word(self, child: Child) -> bool:
        assert child.control is not None
        try:
            received = child.control.receive_nowait()
        except (ControlClosedError, ControlFormatError):
            return False
        if received is None:
            return False
        close_descriptors(received[1])
        self._handle(MessageReceived(child.process, received[0]))
        return True

    def _forget(self, child: Child) -> None:
        self._close_control(child)
        self._voiceless.pop(child, None)
        self._poller.unregister(child.pidfd)
        del self._by_fd[child.pidfd]
        del self._children[child.process]
        child.close()

    def _close_control(self, child: Child) -> None:
        if child.control is not None:
            fd = child.control.fileno()
            self._poller.unregister(fd)
            del self._by_fd[fd]
            child.control.close()
            child.control = None

    def _handle(self, event: Event) -> None:
        for action in self._lifecycle.handle(event, _now_ms()):
            self._do(action)
        while self._failed_forks:
            self._handle(self._failed_forks.pop(0))

    # Actions

    def _do(self, action: Action) -> None:
        match action:
            case ForkController():
                self._fork_controller(action)
            case ForkStorage():
                self._fork_storage(action)
            case ForkFrontEnd():
                self._fork_front_end(action)
            case ForkHelper():
                self._fork_helper(action)
            case ResetLink(index, generation):
                self._shared.links[index].reset(generation)
            case Send():
                self._send(action)
            case Kill(process):
                if process in self._children:
                    self._children[process].kill()
            case Notify(notice, text):
                self._notify(notice, text)
            case AnnounceReady():
                self._announce_ready()
            case Say(level, text):
                _log.log(_LEVELS[level], "%s", text)
            case Exit(code):
                self._exit_code = code

    def _send(self, action: Send) -> None:
        """To a child that may be gone: then its death follows as an event."""
        fds, close_after = self._attached_fds(action)
        child = self._children.get(action.process)
        try:
            if child is not None and child.control is not None \
                    and not child.control.send_nowait(action.message, fds):
                _log.error("%s reads no control messages; killing it", action.process)
                child.kill()
        except ControlClosedError:
            _log.debug("%s is gone, %s not sent", action.process, action.message["kind"])
        finally:
            if close_after is not None:
                close_after()

    def _attached_fds(self, action: Send) -> tuple[list[int], Callable[[], None] | None]:
        match action.attachment:
            case Attachment.DOORBELLS:
                return self._shared.links[action.link_index].doorbells.fds(), None
            case Attachment.STREAMS:
                shared = self._shared
                to_controller = action.process == CONTROLLER
                ends = shared.take_controller_ends() if to_controller else shared.take_front_end_ends()
                return ends.fds(), ends.close
            case Attachment.NONE:
                return [], None

    def _fork_controller(self, action: ForkController) -> None:
        self._shared.renew_streams()
        ends = self._shared.take_controller_ends()

        def main(control: ControlSocket) -> int:
            context = ControllerContext(self._config, control, ends.requests, ends.answers, action.session)
            return self._composition.controller_main(context)

        self._fork(CONTROLLER, "controller", ends.fds(), main)
        ends.close()

    def _fork_storage(self, action: ForkStorage) -> None:
        self._identity = (action.cluster_id, action.broker_id)
        directory = self._directories[action.index]
        link = self._shared.links[action.index]

        def main(control: ControlSocket) -> int:
            return self._composition.storage_main(StorageContext(
                self._config, action.index, directory.path, control, link.storage_end, self._shared.layout,
                self._shared.control_region, self._shared.arena_region, link.doorbells, action.generation,
                action.cluster_id, action.broker_id, action.restarted, action.quarantined))

        keep = fds_of([link.storage_end, link.doorbells, self._shared.control_region,
                       self._shared.arena_region])
        self._fork(storage(action.index), f"storage {directory.path}", [*keep, directory.lock_fd], main)

    def _fork_front_end(self, action: ForkFrontEnd) -> None:
        if action.restarted:
            self._shared.renew_streams()
        ends = self._shared.take_front_end_ends()
        links = [
            StorageLink(link.index, self._directories[link.index].path, link.front_end_end, link.doorbells,
                        link.generation, link.index in action.online, link.index in action.offline)
            for link in self._shared.links
        ]
        request_size = self._config["socket.request.max.bytes"]
        budget = arena_budget_bytes(self._config["ottla.arena.max.bytes"], request_size)

        def main(control: ControlSocket) -> int:
            return self._composition.front_end_main(FrontEndContext(
                self._config, control, links, self._shared.layout, self._shared.control_region,
                self._shared.arena_region, self._listeners, ends.requests, ends.answers, action.broker_id,
                action.cluster_id, request_size, budget, budget // ARENA_RESERVE_SHARE, action.restarted))

        keep = fds_of([ends, self._shared.control_region, self._shared.arena_region,
                       *(sock for _, sock in self._listeners),
                       *(link.control for link in links), *(link.doorbells for link in links)])
        self._fork(FRONT_END, "front end", keep, main)
        ends.close()

    def _fork_helper(self, action: ForkHelper) -> None:
        """No control socket: the requester's socket is its whole world."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            requester = self._children.get(action.requester)
            if requester is None or requester.control is None:
                self._failed_forks.append(ProcessDied(action.helper, DeathCause.EXIT_CLEAN, "not wanted"))
                return
            if self._start(action.helper, f"helper {action.purpose}", [theirs.fileno()], None,
                           lambda: self._composition.helper_main(theirs), OOM_SCORE_ADJUST_HELPER):
                helper = self._children[action.helper]
                message = {"kind": "helper", "purpose": action.purpose, "pid": helper.pid}
                self._send_helper(requester, message, ours)

    def _send_helper(self, requester: Child, message: dict[str, Any], sock: socket.socket) -> None:
        assert requester.control is not None
        try:
            if not requester.control.send_nowait(message, [sock.fileno()]):
                _log.error("%s reads no control messages; killing it", requester.process)
                requester.kill()
        except ControlClosedError:
            _log.debug("%s is gone, its helper is not wanted", requester.process)

    def _fork(self, process: ProcessId, title: str, keep_fds: list[int],
              main: Callable[[ControlSocket], int]) -> None:
        ours, theirs = ControlSocket.pair()
        if not self._start(process, title, [*keep_fds, theirs.fileno()], ours, lambda: main(theirs), 0):
            ours.close()
        theirs.close()

    def _start(self, process: ProcessId, title: str, keep_fds: list[int], control: ControlSocket | None,
               main: Callable[[], int], oom_score: int) -> bool:
        """False: the system refused; its death follows as an event, so that the restart policy sees it."""
        try:
            pid = start_child(title, keep_fds, main, oom_score)
        except OSError as error:
            _log.error("cannot fork %s: %s", process, error)
            self._failed_forks.append(ProcessDied(process, DeathCause.NOT_FORKED, f"not forked: {error.strerror}"))
            return False
        child = Child(process, pid, os.pidfd_open(pid), control)
        self._children[process] = child
        for fd in (child.pidfd, *([control.fileno()] if control is not None else [])):
            self._by_fd[fd] = child
            self._poller.register(fd, select.POLLIN)
        if process.role is not Role.HELPER:
            _log.info("started %s, pid %d", title, pid)
        return True

    def _notify(self, notice: Notice, text: str) -> None:
        match notice:
            case Notice.READY:
                self._service_manager.ready()
                self._service_manager.status("serving")
            case Notice.STATUS:
                self._service_manager.status(text)
            case Notice.STOPPING:
                self._service_manager.stopping()
            case Notice.EXTEND:
                self._service_manager.extend_timeout()

    def _announce_ready(self) -> None:
        assert self._identity is not None
        cluster_id, broker_id = self._identity
        listeners = [describe(listener, sock) for listener, sock in self._listeners]
        pids = {process: child.pid for process, child in self._children.items()}
        for line in start_lines(broker_id, cluster_id, listeners,
                                [directory.path for directory in self._directories], pids):
            _log.info("%s", line)

    def _end_helpers(self) -> None:
        for child in self._children.values():
            child.kill()
            os.waitpid(child.pid, 0)
            child.close()


def _now_ms() -> int:
    return int(time.monotonic() * 1000)

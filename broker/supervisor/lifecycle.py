"""The start, death and restart of a node's processes, as one state machine.

Runs in: supervisor. PURE: `handle(event, now_ms)` returns actions; node.py carries them out.
now_ms is any clock that only goes forward. Owned by node.py's loop.

Start: controller -> identity -> storage processes -> loaded (or offline) -> front end -> ready ->
register -> registered -> accept. Nothing in a directory is touched before the controller has said which
cluster this is, and no client is served before the node is registered.

Deaths (see the table in ARCHITECTURE.md). Three rules explain most of the code:
- A link is reset only when nobody uses the old generation: storage is dead and the front end answered
  `taken_over`, or the front end is dead and storage answered `drained`. Who does not answer is killed.
- `attached` says whether the front end was given the link's present generation; a storage process that
  dies before that can be restarted without asking anybody.
- The registration lives as long as the front end: a new front end makes the controller register anew,
  a new controller resumes.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    ForkStorage,
    Kill,
    Level,
    MessageReceived,
    Notice,
    Notify,
    Outbox,
    ProcessDied,
    ProcessId,
    ResetLink,
    Role,
    Say,
    Send,
    StopRequested,
    storage,
)
from broker.supervisor.helper_pool import HelperPool
from broker.supervisor.process_state import (
    ALIVE,
    BadMessageError,
    ControllerRecord,
    FrontEndRecord,
    Phase,
    State,
    StorageRecord,
    check_message,
    int_field,
    text_field,
)
from broker.supervisor.restart_policy import (
    FORK_RETRY_MS,
    SLOT_DEATHS_MAX,
    RestartAfter,
    counts,
    decide_restart,
)
from broker.supervisor.stop_sequence import StopSequence

TAKE_OVER_MS_MAX = 5000
"""The front end only reads memory and answers clients: longer means that its loop hangs."""
DRAIN_MS_MAX = 5000
"""Storage finishes the writes it has begun: longer means a dead disk."""
HEARD_WHILE_STOPPING = frozenset({"progress", "session"})
"""The rest belongs to a start or a restart that is not wanted any more."""
FAILING_MS_MAX = 5000
"""From `offline` to the exit of the storage process."""


class Lifecycle:
    """The node. directories: log.dirs in order; offline: indices unusable from the start, with the reason;
    ports: of the bound listeners by name, for the registration."""

    def __init__(
        self, directories: Sequence[str], offline: Mapping[int, str], helper_count_max: int,
        ports: Mapping[str, int],
    ) -> None:
        self.phase = Phase.STARTING
        self.controller = ControllerRecord()
        self.front_end = FrontEndRecord()
        self.storages = [StorageRecord(index, directory) for index, directory in enumerate(directories)]
        for index in offline:
            self.storages[index].state = State.OFFLINE
        self.cluster_id: str | None = None
        self.broker_id = -1
        self._ports = dict(ports)
        self._deadlines: dict[tuple[str, ProcessId], int] = {}
        self._out = Outbox()
        self._helpers = HelperPool(helper_count_max, self._out)
        self._stop = StopSequence(self._out, self._deadlines)
        self._exit_code = 0
        self._now_ms = 0

    # Entry points

    def handle(self, event: Event, now_ms: int) -> list[Action]:
        """Actions that follow from the event, in order."""
        self._now_ms = now_ms
        match event:
            case Begin():
                self._fork_controller()
            case MessageReceived(process, message):
                self._on_message(process, message)
            case ProcessDied():
                self._on_death(event)
            case StopRequested(why):
                self._on_stop_requested(why)
            case DeadlinePassed():
                self._on_deadlines()
        if self.phase is Phase.STOPPING:
            self._advance_stop()
        return self._out.take()

    def next_deadline_ms(self) -> int | None:
        """When `DeadlinePassed` is due, None if nothing is waited for."""
        return min(self._deadlines.values(), default=None)

    # Messages

    def _on_message(self, process: ProcessId, message: dict[str, object]) -> None:
        try:
            check_message(process.role, self._state(process), message)
            if self.phase is Phase.STOPPING and message["kind"] not in HEARD_WHILE_STOPPING:
                return
            match process.role:
                case Role.CONTROLLER:
                    self._on_controller_message(message)
                case Role.STORAGE:
                    self._on_storage_message(self.storages[process.index], message)
                case Role.FRONT_END:
                    self._on_front_end_message(message)
        except BadMessageError as error:
            self._say(Level.ERROR, f"{self._name(process)} {error}; killing it")
            self._out.add(Kill(process))

    def _on_controller_message(self, message: dict[str, object]) -> None:
        match message["kind"]:
            case "identity":
                self._on_identity(text_field(message, "cluster_id"), int_field(message, "broker_id"))
            case "registered":
                self._on_registered(int_field(message, "broker_epoch"))
            case "session":
                self.controller.session = {key: value for key, value in message.items() if key != "kind"}
            case "failed":
                self._fail(f"controller: {text_field(message, 'why')}")

    def _on_identity(self, cluster_id: str, broker_id: int) -> None:
        self.controller.state = State.UP
        if self.cluster_id is None:
            self.cluster_id, self.broker_id = cluster_id, broker_id
            self._say(Level.INFO, f"cluster {cluster_id}, broker {broker_id}")
            for record in self.storages:
                if record.usable and self.phase is Phase.STARTING:
                    self._fork_storage(record)
            return
        if (cluster_id, broker_id) != (self.cluster_id, self.broker_id):
            self._fail(f"controller came back as broker {broker_id} of cluster {cluster_id}, "
                       f"this is broker {self.broker_id} of cluster {self.cluster_id}")
        elif self.front_end.state in (State.UP, State.ACCEPTING) and not self._registration_under_way():
            self._register()

    def _on_registered(self, broker_epoch: int) -> None:
        """Also unasked, when the controller's session expired and it registered anew."""
        self.controller.registrations_unanswered = max(0, self.controller.registrations_unanswered - 1)
        if self.controller.registrations_unanswered == 0 and self.front_end.state in ALIVE:
            self.front_end.broker_epoch = broker_epoch
            if self.front_end.state in (State.UP, State.ACCEPTING):
                self._accept()

    def _on_storage_message(self, record: StorageRecord, message: dict[str, object]) -> None:
        match message["kind"]:
            case "progress":
                self._on_progress(record, message)
            case "loaded":
                self._on_loaded(record)
            case "drained":
                self._on_drained(record)
            case "helper_wanted":
                self._helpers.want(storage(record.index), text_field(message, "purpose"))
            case "offline":
                record.state = State.FAILING
                record.fatal_reason = text_field(message, "why")
                self._set_deadline("failing", storage(record.index), FAILING_MS_MAX)
            case "failed":
                self._on_storage_failed(record, text_field(message, "why"))

    def _on_storage_failed(self, record: StorageRecord, why: str) -> None:
        """Before it ever loaded: not our directory, the start is over. Later: last words before a death."""
        if record.ever_loaded:
            self._say(Level.ERROR, f"storage of {record.directory} fails: {why}")
        else:
            self._fail(f"{record.directory}: {why}")

    def _on_progress(self, record: StorageRecord, message: dict[str, object]) -> None:
        text = message.get("text")
        detail = text if isinstance(text, str) else f"{message.get('done')} of {message.get('total')}"
        if self.phase is not Phase.RUNNING:
            self._out.add(Notify(Notice.EXTEND))
            self._out.add(Notify(Notice.STATUS, f"{record.directory}: {detail}"))
        if self.phase is Phase.STOPPING:
            self._stop.note_progress(storage(record.index), self._now_ms)

    def _on_loaded(self, record: StorageRecord) -> None:
        record.state = State.UP
        record.ever_loaded = True
        self._say(Level.INFO, f"storage of {record.directory} has loaded")
        if self.front_end.state in ALIVE:
            self._attach(record)
        else:
            self._maybe_fork_front_end()

    def _on_drained(self, record: StorageRecord) -> None:
        record.draining = False
        self._clear_deadline("drain", storage(record.index))
        self._maybe_fork_front_end()

    def _on_front_end_message(self, message: dict[str, object]) -> None:
        match message["kind"]:
            case "ready":
                self._on_ready()
            case "progress":  # of its controlled shutdown
                self._out.add(Notify(Notice.EXTEND))
                self._stop.note_progress(FRONT_END, self._now_ms)
            case "taken_over":
                self._on_taken_over(int_field(message, "index"))
            case "helper_wanted":
                self._helpers.want(FRONT_END, text_field(message, "purpose"))
            case "register_anew":
                self._register_anew()
            case "failed":
                self._fail(f"front end: {text_field(message, 'why')}")

    def _on_ready(self) -> None:
        self.front_end.state = State.UP
        if self._registration_under_way():
            return
        if self.front_end.broker_epoch is not None:
            self._accept()
        if self.controller.state is State.UP and not self.controller.knows_front_end:
            self._register()

    def _on_taken_over(self, index: int) -> None:
        if not 0 <= index < len(self.storages) or self.storages[index].state is not State.STRANDED:
            raise BadMessageError(f"took over storage {index}, which is not waiting for it")
        self._clear_deadline("take over", storage(index))
        self._restart_storage(self.storages[index])

    # Deaths

    def _on_death(self, event: ProcessDied) -> None:
        for what in ("drain", "failing", "take over", "stop"):
            self._clear_deadline(what, event.process)
        if event.process.role is not Role.HELPER:
            expected = self.phase is Phase.STOPPING and event.cause is DeathCause.EXIT_CLEAN
            level = Level.INFO if expected else Level.WARN
            self._say(level, f"{self._name(event.process)} ended: {event.detail}")
            self._helpers.requester_died(event.process)
        if self.phase is Phase.STOPPING and event.cause is not DeathCause.EXIT_CLEAN:
            self._exit_code = self._exit_code or (1 if event.process.role is not Role.HELPER else 0)
        match event.process.role:
            case Role.CONTROLLER:
                self._on_controller_death(event)
            case Role.STORAGE:
                self._on_storage_death(self.storages[event.process.index], event)
            case Role.FRONT_END:
                self._on_front_end_death(event)
            case Role.HELPER:
                self._on_helper_death(event)

    def _on_helper_death(self, event: ProcessDied) -> None:
        if event.cause is DeathCause.NOT_FORKED:
            self._helpers.helper_not_forked(event.process)
            self._set_deadline("restart", event.process, FORK_RETRY_MS)
        else:
            self._helpers.helper_died(event.process)
            self._maybe_fork_front_end_again()

    def _on_controller_death(self, event: ProcessDied) -> None:
        self.controller.state = State.DOWN
        self.controller.registrations_unanswered = 0
        self.controller.knows_front_end = False
        if self.phase is not Phase.STOPPING:
            delay_ms = self._decide_restart(event, self.controller.counted_deaths_ms)
            if delay_ms is not None:
                self._set_deadline("restart", CONTROLLER, delay_ms)

    def _on_front_end_death(self, event: ProcessDied) -> None:
        self.front_end.state = State.DOWN
        self.front_end.broker_epoch = None
        self.controller.knows_front_end = False
        if self.phase is Phase.STOPPING:
            return
        delay_ms = self._decide_restart(event, self.front_end.counted_deaths_ms)
        if delay_ms is None:
            return
        self._set_deadline("restart", FRONT_END, delay_ms)
        for record in self.storages:
            self._clear_deadline("take over", storage(record.index))
            if record.state is State.STRANDED:
                self._restart_storage(record)
            elif record.attached and record.state is State.UP:
                record.draining = True
                self._set_deadline("drain", storage(record.index), DRAIN_MS_MAX)
                self._send_storage(record, "front_end_died", generation=record.generation)
            record.attached = False

    def _on_storage_death(self, record: StorageRecord, event: ProcessDied) -> None:
        was_attached, record.attached, record.draining = record.attached, False, False
        record.state = State.DOWN
        if self.phase is Phase.STOPPING:
            return
        if event.working_slot is not None and counts(event.cause):
            self._note_slot_death(record, event.working_slot)
        if record.fatal_reason is None:
            self._judge_storage_death(record, event)
        if was_attached and self.front_end.state in ALIVE:
            record.state = State.STRANDED
            self._out.add(Send(FRONT_END, {"kind": "storage_died", "index": record.index,
                                           "generation": record.generation}))
            self._set_deadline("take over", storage(record.index), TAKE_OVER_MS_MAX)
        else:
            self._restart_storage(record)

    def _note_slot_death(self, record: StorageRecord, slot: tuple[int, int]) -> None:
        record.slot_deaths[slot] = record.slot_deaths.get(slot, 0) + 1
        if record.slot_deaths[slot] == SLOT_DEATHS_MAX:
            record.quarantined += (slot,)
            record.counted_deaths_ms.clear()
            self._say(Level.ERROR, f"partition in slot {slot[0]} of {record.directory} is quarantined: "
                                   f"storage died {SLOT_DEATHS_MAX} times while working on it")

    def _judge_storage_death(self, record: StorageRecord, event: ProcessDied) -> None:
        if counts(event.cause):
            record.counted_deaths_ms.append(self._now_ms)
        verdict = decide_restart(Role.STORAGE, event.cause, record.counted_deaths_ms, self._now_ms)
        if isinstance(verdict, RestartAfter):
            record.restart_delay_ms = verdict.delay_ms
        else:
            record.fatal_reason = f"its storage process died {len(record.counted_deaths_ms)} times"

    def _restart_storage(self, record: StorageRecord) -> None:
        """Nobody uses the link: a new generation, or the end of the directory."""
        if record.fatal_reason is not None:
            self._take_offline(record, record.fatal_reason)
            return
        if record.restart_delay_ms:
            record.state = State.DOWN
            self._set_deadline("restart", storage(record.index), record.restart_delay_ms)
        else:
            self._renew_storage(record)
        self._maybe_fork_front_end()

    def _renew_storage(self, record: StorageRecord) -> None:
        record.generation += 1
        self._out.add(ResetLink(record.index, record.generation))
        self._fork_storage(record)

    def _take_offline(self, record: StorageRecord, why: str) -> None:
        record.state = State.OFFLINE
        self._say(Level.ERROR, f"log directory {record.directory} is offline: {why}")
        if not any(other.usable for other in self.storages):
            self._fail("no usable log directory is left")
            return
        if self.front_end.state in ALIVE:
            self._out.add(Send(FRONT_END, {"kind": "storage_offline", "index": record.index, "why": why}))
        self._maybe_fork_front_end()

    def _decide_restart(self, event: ProcessDied, counted_deaths_ms: list[int]) -> int | None:
        """Delay before the restart; None when the node gives up."""
        if counts(event.cause):
            counted_deaths_ms.append(self._now_ms)
        verdict = decide_restart(event.process.role, event.cause, counted_deaths_ms, self._now_ms)
        if isinstance(verdict, RestartAfter):
            return verdict.delay_ms
        self._fail(f"{event.process} died {len(counted_deaths_ms)} times, the last time: {event.detail}")
        return None

    # Forks

    def _fork_controller(self) -> None:
        self.controller.state = State.STARTING
        self._out.add(ForkController(self.controller.session))
        if self.front_end.state in ALIVE:
            self._out.add(Send(FRONT_END, {"kind": "controller_restarted"}, Attachment.STREAMS))

    def _fork_storage(self, record: StorageRecord) -> None:
        assert self.cluster_id is not None
        record.state = State.STARTING
        self._out.add(ForkStorage(record.index, record.generation, self.cluster_id, self.broker_id,
                                  record.ever_loaded, record.quarantined))

    def _maybe_fork_front_end(self) -> None:
        """Fork it once nothing stands against it: at first all directories, later only the drained ones."""
        if self.front_end.state in ALIVE or self.phase is Phase.STOPPING:
            return
        if ("restart", FRONT_END) in self._deadlines or self._slabs_may_be_in_use():
            return
        loading = any(record.state in (State.DOWN, State.STARTING) for record in self.storages)
        if self.front_end.incarnation == 0 and loading:
            return
        self._fork_front_end()

    def _maybe_fork_front_end_again(self) -> None:
        """A helper of the dead front end may have been the last thing that stood against it."""
        if self.front_end.incarnation > 0:
            self._maybe_fork_front_end()

    def _slabs_may_be_in_use(self) -> bool:
        """Someone may still write to slabs that the next front end will hand out again."""
        storage_works = any(record.draining or record.state is State.FAILING for record in self.storages)
        return storage_works or self._helpers.runs_for(FRONT_END)

    def _fork_front_end(self) -> None:
        assert self.cluster_id is not None
        restarted = self.front_end.incarnation > 0
        loaded = [record for record in self.storages if record.state is State.UP]
        for record in loaded:
            if restarted:
                record.generation += 1
                self._out.add(ResetLink(record.index, record.generation))
                self._send_storage(record, "front_end_started", Attachment.DOORBELLS,
                                   generation=record.generation)
            record.attached = True
        self.front_end.state = State.STARTING
        self.front_end.incarnation += 1
        self.front_end.broker_epoch = None
        online = frozenset(record.index for record in loaded)
        offline = frozenset(record.index for record in self.storages if not record.usable)
        self._out.add(ForkFrontEnd(self.cluster_id, self.broker_id, restarted, online, offline))
        if restarted and self.controller.state in ALIVE:
            self.controller.registrations_unanswered += 1
            self.controller.knows_front_end = True
            message = {"kind": "front_end_restarted", "ports": self._ports}
            self._out.add(Send(CONTROLLER, message, Attachment.STREAMS))

    # The front end's view

    def _attach(self, record: StorageRecord) -> None:
        record.attached = True
        message = {"kind": "storage_started", "index": record.index, "generation": record.generation,
                   "quarantined": [list(slot) for slot in record.quarantined]}
        self._out.add(Send(FRONT_END, message, Attachment.DOORBELLS, record.index))

    def _registration_under_way(self) -> bool:
        """The controller's next `registered` is for this front end, or a later one will be."""
        return self.controller.registrations_unanswered > 0

    def _register(self) -> None:
        """resume: this front end is registered already, with broker_epoch, and serves."""
        self.controller.registrations_unanswered += 1
        self.controller.knows_front_end = True
        epoch = self.front_end.broker_epoch
        self._out.add(Send(CONTROLLER, {"kind": "register", "resume": epoch is not None,
                                        "broker_epoch": -1 if epoch is None else epoch, "ports": self._ports}))

    def _register_anew(self) -> None:
        """The front end can serve what it had refused: a new broker epoch makes any controller send it all."""
        self.front_end.broker_epoch = None
        if self.controller.state is State.UP:
            self._register()

    def _accept(self) -> None:
        self.front_end.state = State.ACCEPTING
        self._out.add(Send(FRONT_END, {"kind": "accept", "broker_epoch": self.front_end.broker_epoch}))
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING
            self._out.add(Notify(Notice.READY))
            self._out.add(AnnounceReady())

    # Deadlines and the end

    def _on_deadlines(self) -> None:
        due = [key for key, at_ms in self._deadlines.items() if at_ms <= self._now_ms]
        for what, process in due:
            self._deadlines.pop((what, process), None)
            if what == "restart":
                self._restart(process)
                continue
            culprit = FRONT_END if what == "take over" else process
            self._say(Level.ERROR, f"{self._name(culprit)} did not answer in time ({what}); killing it")
            self._out.add(Kill(culprit))

    def _restart(self, process: ProcessId) -> None:
        if self.phase is Phase.STOPPING:
            return
        match process.role:
            case Role.CONTROLLER:
                self._fork_controller()
            case Role.FRONT_END:
                self._maybe_fork_front_end()
            case Role.STORAGE:
                self._renew_storage(self.storages[process.index])
            case Role.HELPER:
                self._helpers.fork_waiting()

    def _on_stop_requested(self, why: str) -> None:
        if self.phase is Phase.STOPPING:
            self._stop.hurry(self._now_ms)
            return
        self._say(Level.INFO, f"stopping: {why}")
        self._begin_stop()

    def _fail(self, why: str) -> None:
        """The node cannot go on: stop in order, exit code 1."""
        self._say(Level.ERROR, why)
        self._exit_code = 1
        if self.phase is not Phase.STOPPING:
            self._begin_stop()

    def _begin_stop(self) -> None:
        self.phase = Phase.STOPPING
        self._deadlines.clear()
        self._out.add(Notify(Notice.STOPPING))

    def _advance_stop(self) -> None:
        stages = (
            [FRONT_END] if self.front_end.state in ALIVE else [],
            [storage(record.index) for record in self.storages if record.state in ALIVE],
            [CONTROLLER] if self.controller.state in ALIVE else [],
        )
        if self._stop.advance(stages, self._now_ms):
            self.phase = Phase.ENDED
            self._out.add(Exit(self._exit_code))

    # Small things

    def _send_storage(self, record: StorageRecord, kind: str, attachment: Attachment = Attachment.NONE,
                      generation: int = 0) -> None:
        message = {"kind": kind, "generation": generation}
        self._out.add(Send(storage(record.index), message, attachment, record.index))

    def _state(self, process: ProcessId) -> State:
        match process.role:
            case Role.CONTROLLER:
                return self.controller.state
            case Role.FRONT_END:
                return self.front_end.state
            case Role.STORAGE:
                return self.storages[process.index].state
            case Role.HELPER:
                return State.UP

    def _name(self, process: ProcessId) -> str:
        if process.role is Role.STORAGE:
            return f"storage of {self.storages[process.index].directory}"
        return str(process)

    def _say(self, level: Level, text: str) -> None:
        self._out.add(Say(level, text))

    def _set_deadline(self, what: str, process: ProcessId, after_ms: int) -> None:
        self._deadlines[(what, process)] = self._now_ms + after_ms

    def _clear_deadline(self, what: str, process: ProcessId) -> None:
        self._deadlines.pop((what, process), None)

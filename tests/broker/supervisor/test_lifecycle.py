"""The node's state machine: events in, actions out, no process anywhere."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from broker.supervisor.events import (
    CONTROLLER,
    FRONT_END,
    Action,
    AnnounceReady,
    Attachment,
    Begin,
    DeadlinePassed,
    DeathCause,
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
from broker.supervisor.lifecycle import DRAIN_MS_MAX, TAKE_OVER_MS_MAX, Lifecycle
from broker.supervisor.process_state import LEGAL_MESSAGES, Phase, State
from broker.supervisor.stop_sequence import HURRIED_STOP_MS_MAX, STOP_MS_MAX

CLUSTER, BROKER = "c1", 7
PORTS = {"PLAINTEXT": 9092}
A = TypeVar("A")


class Node:
    """A lifecycle under a virtual clock, with the actions of the last event at hand."""

    def __init__(self, directory_count: int = 2, offline: dict[int, str] | None = None) -> None:
        directories = [f"/data/{index}" for index in range(directory_count)]
        self.lifecycle = Lifecycle(directories, offline or {}, helper_count_max=2, ports=PORTS)
        self.now_ms = 0
        self.actions: list[Action] = []
        self.do(Begin())

    def do(self, event: Any) -> list[Action]:
        self.actions = self.lifecycle.handle(event, self.now_ms)
        return self.actions

    def tell(self, process: ProcessId, kind: str, **fields: Any) -> list[Action]:
        return self.do(MessageReceived(process, {"kind": kind} | fields))

    def die(self, process: ProcessId, cause: DeathCause = DeathCause.FAULT,
            slot: tuple[int, int] | None = None) -> list[Action]:
        return self.do(ProcessDied(process, cause, "SIGSEGV", slot))

    def wait(self, wait_ms: int) -> list[Action]:
        self.now_ms += wait_ms
        return self.do(DeadlinePassed())

    def of(self, kind: type[A]) -> list[A]:
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(self, process: ProcessId) -> list[dict[str, Any]]:
        return [action.message for action in self.of(Send) if action.process == process]

    def said(self, level: Level) -> list[str]:
        return [action.text for action in self.of(Say) if action.level is level]

    @property
    def shown(self) -> list[Action]:
        """The actions but for log lines."""
        return [action for action in self.actions if not isinstance(action, Say)]


def identified(directory_count: int = 2) -> Node:
    node = Node(directory_count)
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    return node


def running(directory_count: int = 2) -> Node:
    node = identified(directory_count)
    for index in range(directory_count):
        node.tell(storage(index), "loaded")
    node.tell(FRONT_END, "ready")
    node.tell(CONTROLLER, "registered", broker_epoch=100)
    return node


# Start


def test_the_controller_is_forked_first_and_alone() -> None:
    assert Node().shown == [ForkController({})]


def test_storage_is_forked_only_when_the_identity_is_known() -> None:
    node = Node()
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    assert node.shown == [ForkStorage(index, 1, CLUSTER, BROKER, False, ()) for index in (0, 1)]


def test_the_front_end_is_forked_when_the_last_directory_has_loaded() -> None:
    node = identified()
    node.tell(storage(1), "loaded")
    assert node.of(ForkFrontEnd) == []
    node.tell(storage(0), "loaded")
    assert node.of(ForkFrontEnd) == [ForkFrontEnd(CLUSTER, BROKER, False, frozenset({0, 1}), frozenset())]


def test_registration_follows_the_ready_front_end_and_clients_come_last() -> None:
    node = identified()
    node.tell(storage(0), "loaded")
    node.tell(storage(1), "loaded")
    node.tell(FRONT_END, "ready")
    assert node.sent(CONTROLLER) == [{"kind": "register", "resume": False, "broker_epoch": -1, "ports": PORTS}]
    node.tell(CONTROLLER, "registered", broker_epoch=100)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 100}]
    assert node.of(AnnounceReady) == [AnnounceReady()]
    assert node.of(Notify) == [Notify(Notice.READY)]
    assert node.lifecycle.phase is Phase.RUNNING


def test_progress_extends_the_service_managers_patience_while_starting() -> None:
    node = identified()
    node.tell(storage(0), "progress", done=3, total=9)
    assert node.shown == [Notify(Notice.EXTEND), Notify(Notice.STATUS, "/data/0: 3 of 9")]


def test_a_directory_unusable_from_the_start_gets_no_process() -> None:
    node = Node(2, offline={0: "read-only"})
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    assert [fork.index for fork in node.of(ForkStorage)] == [1]
    node.tell(storage(1), "loaded")
    assert node.of(ForkFrontEnd) == [ForkFrontEnd(CLUSTER, BROKER, False, frozenset({1}), frozenset({0}))]


def test_a_directory_of_another_cluster_ends_the_start() -> None:
    node = identified()
    node.tell(storage(0), "failed", why="belongs to cluster c2")
    assert node.said(Level.ERROR) == ["/data/0: belongs to cluster c2"]
    assert node.sent(storage(0)) == [{"kind": "stop"}]
    node.die(storage(0))
    node.die(storage(1), DeathCause.EXIT_CLEAN)
    node.die(CONTROLLER, DeathCause.EXIT_CLEAN)
    assert node.of(Exit) == [Exit(1)]


def test_last_words_of_storage_that_had_loaded_are_kept_and_it_is_restarted() -> None:
    node = running()
    node.tell(storage(0), "failed", why="bug")
    assert node.actions == [Say(Level.ERROR, "storage of /data/0 fails: bug")]
    node.die(storage(0))
    node.tell(FRONT_END, "taken_over", index=0)
    assert len(node.of(ForkStorage)) == 1


def test_a_failed_controller_ends_the_start() -> None:
    node = Node()
    node.tell(CONTROLLER, "failed", why="another broker uses this metadata store")
    node.die(CONTROLLER)
    assert node.of(Exit) == [Exit(1)]


def test_storage_that_crashes_while_loading_is_forked_again_without_asking_anybody() -> None:
    node = identified()
    node.die(storage(0))
    assert node.shown == [ResetLink(0, 2), ForkStorage(0, 2, CLUSTER, BROKER, False, ())]


# Death of storage


def test_dead_storage_is_taken_over_before_its_rings_are_used_again() -> None:
    node = running()
    node.die(storage(1))
    assert node.shown == [Send(FRONT_END, {"kind": "storage_died", "index": 1, "generation": 1})]
    node.tell(FRONT_END, "taken_over", index=1)
    assert node.shown == [ResetLink(1, 2), ForkStorage(1, 2, CLUSTER, BROKER, True, ())]
    node.tell(storage(1), "loaded")
    assert node.shown == [
        Send(FRONT_END, {"kind": "storage_started", "index": 1, "generation": 2, "quarantined": []},
             Attachment.DOORBELLS, 1)
    ]


def test_storage_that_dies_again_before_the_front_end_knew_it_needs_no_taking_over() -> None:
    node = running()
    node.die(storage(0))
    node.tell(FRONT_END, "taken_over", index=0)
    node.die(storage(0))
    assert node.shown == [ResetLink(0, 3), ForkStorage(0, 3, CLUSTER, BROKER, True, ())]


def test_a_front_end_that_does_not_take_over_is_killed() -> None:
    node = running()
    node.die(storage(0))
    node.wait(TAKE_OVER_MS_MAX)
    assert node.of(Kill) == [Kill(FRONT_END)]


def restart_storage(node: Node, cause: DeathCause, slot: tuple[int, int] | None = None) -> None:
    node.die(storage(0), cause, slot)
    node.tell(FRONT_END, "taken_over", index=0)
    node.tell(storage(0), "loaded")


def test_two_deaths_on_one_slot_quarantine_it() -> None:
    node = running()
    restart_storage(node, DeathCause.FAULT, (5, 1))
    assert node.lifecycle.storages[0].quarantined == ()
    node.die(storage(0), DeathCause.FAULT, (5, 1))
    node.tell(FRONT_END, "taken_over", index=0)
    assert node.of(ForkStorage) == [ForkStorage(0, 3, CLUSTER, BROKER, True, ((5, 1),))]
    node.tell(storage(0), "loaded")
    assert node.sent(FRONT_END)[0]["quarantined"] == [[5, 1]]


def test_the_same_slot_of_another_generation_is_another_partition() -> None:
    node = running()
    restart_storage(node, DeathCause.FAULT, (5, 1))
    restart_storage(node, DeathCause.FAULT, (5, 2))
    assert node.lifecycle.storages[0].quarantined == ()


def test_kills_from_outside_neither_quarantine_nor_take_the_directory_offline() -> None:
    node = running()
    for _ in range(20):
        restart_storage(node, DeathCause.KILLED_FROM_OUTSIDE, (5, 1))
    assert node.lifecycle.storages[0].state is State.UP
    assert node.lifecycle.storages[0].quarantined == ()


def test_repeated_deaths_take_the_directory_offline_and_the_others_serve_on() -> None:
    node = running()
    for number in range(4):
        restart_storage(node, DeathCause.FAULT, (number, 1))
    node.die(storage(0))
    node.tell(FRONT_END, "taken_over", index=0)
    assert node.of(ForkStorage) == []
    assert node.sent(FRONT_END) == [
        {"kind": "storage_offline", "index": 0, "why": "its storage process died 5 times"}]
    assert node.lifecycle.phase is Phase.RUNNING


def test_deaths_spread_over_hours_do_not_add_up() -> None:
    node = running()
    for number in range(20):
        node.now_ms += 60_000
        restart_storage(node, DeathCause.FAULT, (number, 1))
    assert node.lifecycle.storages[0].state is State.UP


def test_a_directory_that_reports_an_io_error_goes_offline_at_once() -> None:
    node = running()
    node.tell(storage(0), "offline", why="Input/output error")
    node.die(storage(0), DeathCause.EXIT_CLEAN)
    node.tell(FRONT_END, "taken_over", index=0)
    assert node.sent(FRONT_END) == [{"kind": "storage_offline", "index": 0, "why": "Input/output error"}]


def test_the_last_usable_directory_takes_the_node_with_it() -> None:
    node = running(directory_count=1)
    node.tell(storage(0), "offline", why="Input/output error")
    node.die(storage(0), DeathCause.EXIT_CLEAN)
    node.tell(FRONT_END, "taken_over", index=0)
    assert "no usable log directory is left" in node.said(Level.ERROR)
    assert node.sent(FRONT_END) == [{"kind": "stop"}]


def test_an_offline_process_that_does_not_exit_is_killed() -> None:
    node = running()
    node.tell(storage(0), "offline", why="Input/output error")
    node.wait(5000)
    assert node.of(Kill) == [Kill(storage(0))]


# Death of the front end


def test_a_new_front_end_waits_until_every_storage_process_has_drained() -> None:
    node = running()
    node.die(FRONT_END)
    assert node.sent(storage(0)) == [{"kind": "front_end_died", "generation": 1}]
    assert node.sent(storage(1)) == [{"kind": "front_end_died", "generation": 1}]
    node.wait(0)
    node.tell(storage(0), "drained", generation=1)
    assert node.of(ForkFrontEnd) == []
    node.tell(storage(1), "drained", generation=1)
    assert node.shown == [
        ResetLink(0, 2), Send(storage(0), {"kind": "front_end_started", "generation": 2}, Attachment.DOORBELLS, 0),
        ResetLink(1, 2), Send(storage(1), {"kind": "front_end_started", "generation": 2}, Attachment.DOORBELLS, 1),
        ForkFrontEnd(CLUSTER, BROKER, True, frozenset({0, 1}), frozenset()),
        Send(CONTROLLER, {"kind": "front_end_restarted", "ports": PORTS}, Attachment.STREAMS),
    ]


def test_the_node_gets_a_new_broker_epoch_with_a_new_front_end() -> None:
    node = restarted_front_end()
    node.tell(CONTROLLER, "registered", broker_epoch=101)
    node.tell(FRONT_END, "ready")
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 101}]


def restarted_front_end() -> Node:
    node = running()
    node.die(FRONT_END)
    node.wait(0)
    node.tell(storage(0), "drained", generation=1)
    node.tell(storage(1), "drained", generation=1)
    return node


def test_the_answer_to_an_older_registration_opens_no_door() -> None:
    node = identified()
    node.tell(storage(0), "loaded")
    node.tell(storage(1), "loaded")
    node.tell(FRONT_END, "ready")
    node.die(FRONT_END)
    node.wait(0)
    node.tell(storage(0), "drained", generation=1)
    node.tell(storage(1), "drained", generation=1)
    node.tell(FRONT_END, "ready")
    node.tell(CONTROLLER, "registered", broker_epoch=100)
    assert node.sent(FRONT_END) == []
    node.tell(CONTROLLER, "registered", broker_epoch=101)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 101}]


def test_storage_that_does_not_drain_is_killed_and_its_death_counts_as_drained() -> None:
    node = running()
    node.die(FRONT_END)
    node.wait(0)
    node.tell(storage(0), "drained", generation=1)
    node.wait(DRAIN_MS_MAX)
    assert node.of(Kill) == [Kill(storage(1))]
    node.die(storage(1), DeathCause.HUNG)
    assert node.of(ForkStorage) == [ForkStorage(1, 2, CLUSTER, BROKER, True, ())]
    assert node.of(ForkFrontEnd) == [ForkFrontEnd(CLUSTER, BROKER, True, frozenset({0}), frozenset())]
    node.tell(storage(1), "loaded")
    assert [message["kind"] for message in node.sent(FRONT_END)] == ["storage_started"]


def test_a_front_end_that_dies_while_taking_over_does_not_leave_storage_stranded() -> None:
    node = running()
    node.die(storage(0))
    node.die(FRONT_END)
    assert node.of(ForkStorage) == [ForkStorage(0, 2, CLUSTER, BROKER, True, ())]


def test_the_helpers_of_a_dead_front_end_are_gone_before_slabs_are_reused() -> None:
    node = running()
    node.tell(FRONT_END, "helper_wanted", purpose="conversion")
    helper = node.of(ForkHelper)[0].helper
    node.die(FRONT_END)
    assert node.of(Kill) == [Kill(helper)]
    node.wait(0)
    for index in (0, 1):
        node.tell(storage(index), "drained", generation=1)
    assert node.of(ForkFrontEnd) == []
    node.die(helper, DeathCause.HUNG)
    assert len(node.of(ForkFrontEnd)) == 1


def test_the_front_end_backs_off_and_in_the_end_the_node_gives_up() -> None:
    node = running()
    delays = []
    for number in range(4):
        node.die(FRONT_END)
        for index in (0, 1):
            if number == 0:
                node.tell(storage(index), "drained", generation=1)
            elif node.lifecycle.storages[index].draining:
                node.tell(storage(index), "drained", generation=number + 1)
        deadline_ms = node.lifecycle.next_deadline_ms()
        assert deadline_ms is not None
        delays.append(deadline_ms - node.now_ms)
        node.wait(delays[-1])
        assert len(node.of(ForkFrontEnd)) == 1
    assert delays == [0, 200, 1000, 3000]
    node.die(FRONT_END)
    assert node.said(Level.ERROR) == ["front end died 5 times, the last time: SIGSEGV"]
    assert node.lifecycle.phase is Phase.STOPPING


# Death of the controller


def test_a_new_controller_resumes_its_session_and_the_front_end_gets_fresh_streams() -> None:
    node = running()
    node.tell(CONTROLLER, "session", id=5, password=b"x")
    node.die(CONTROLLER)
    node.wait(0)
    assert node.shown == [
        ForkController({"id": 5, "password": b"x"}),
        Send(FRONT_END, {"kind": "controller_restarted"}, Attachment.STREAMS),
    ]
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    assert node.sent(CONTROLLER) == [{"kind": "register", "resume": True, "broker_epoch": 100, "ports": PORTS}]
    node.tell(CONTROLLER, "registered", broker_epoch=100)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 100}]
    assert node.of(AnnounceReady) == []


def test_a_controller_that_comes_back_as_somebody_else_ends_the_node() -> None:
    node = running()
    node.die(CONTROLLER)
    node.wait(0)
    node.tell(CONTROLLER, "identity", cluster_id="c2", broker_id=BROKER)
    assert node.lifecycle.phase is Phase.STOPPING


def test_controller_and_front_end_dead_together_register_anew() -> None:
    node = running()
    node.die(CONTROLLER)
    node.die(FRONT_END)
    node.wait(0)
    node.tell(storage(0), "drained", generation=1)
    node.tell(storage(1), "drained", generation=1)
    node.tell(FRONT_END, "ready")
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    assert node.sent(CONTROLLER) == [], "front_end_restarted, sent at the fork, is its call to register"
    node.tell(CONTROLLER, "registered", broker_epoch=101)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 101}]


def test_a_new_epoch_after_a_lost_session_reaches_the_front_end_unasked() -> None:
    node = running()
    node.tell(CONTROLLER, "registered", broker_epoch=102)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 102}]


# Stop


def test_the_parts_stop_in_order() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    assert node.of(Send) == [Send(FRONT_END, {"kind": "stop"})]
    node.tell(FRONT_END, "stopped")
    node.die(FRONT_END, DeathCause.EXIT_CLEAN)
    assert node.of(Send) == [Send(storage(0), {"kind": "stop"}), Send(storage(1), {"kind": "stop"})]
    node.die(storage(0), DeathCause.EXIT_CLEAN)
    assert node.of(Send) == []
    node.die(storage(1), DeathCause.EXIT_CLEAN)
    assert node.of(Send) == [Send(CONTROLLER, {"kind": "stop"})]
    node.die(CONTROLLER, DeathCause.EXIT_CLEAN)
    assert node.of(Exit) == [Exit(0)]
    assert node.lifecycle.next_deadline_ms() is None


def test_storage_may_take_as_long_as_it_reports_progress() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    node.die(FRONT_END, DeathCause.EXIT_CLEAN)
    for done in range(10):
        node.now_ms += STOP_MS_MAX[Role.STORAGE] - 1
        for index in (0, 1):
            node.tell(storage(index), "progress", done=done, total=10)
        assert Notify(Notice.EXTEND) in node.actions
        assert node.do(DeadlinePassed()) == []
    node.wait(STOP_MS_MAX[Role.STORAGE])
    assert node.of(Kill) == [Kill(storage(0)), Kill(storage(1))]


def test_a_controlled_shutdown_may_take_as_long_as_the_front_end_reports_progress() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    for _ in range(10):
        node.now_ms += STOP_MS_MAX[Role.FRONT_END] - 1
        node.tell(FRONT_END, "progress", text="controlled shutdown")
        assert Notify(Notice.EXTEND) in node.actions
        assert node.do(DeadlinePassed()) == []
    node.do(StopRequested("SIGTERM"))
    node.tell(FRONT_END, "progress", text="controlled shutdown")
    node.wait(HURRIED_STOP_MS_MAX)
    assert node.of(Kill) == [Kill(FRONT_END)]


def test_a_second_signal_shortens_the_wait_and_a_third_ends_it() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    node.do(StopRequested("SIGTERM"))
    assert node.lifecycle.next_deadline_ms() == HURRIED_STOP_MS_MAX
    node.do(StopRequested("SIGTERM"))
    assert node.lifecycle.next_deadline_ms() == 0
    node.wait(0)
    assert node.of(Kill) == [Kill(FRONT_END)]
    node.die(FRONT_END, DeathCause.HUNG)
    assert node.of(Kill) == [Kill(storage(0)), Kill(storage(1))]


def test_an_unclean_stop_has_an_exit_code() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    node.die(FRONT_END, DeathCause.FAULT)
    for index in (0, 1):
        node.die(storage(index), DeathCause.EXIT_CLEAN)
    node.die(CONTROLLER, DeathCause.EXIT_CLEAN)
    assert node.of(Exit) == [Exit(1)]


@pytest.mark.parametrize("moment", ["begun", "identified", "loaded", "running", "stranded", "drained"])
def test_a_stop_at_any_moment_ends_the_node(moment: str) -> None:
    makers: dict[str, Callable[[], Node]] = {
        "begun": Node, "identified": identified, "running": running, "drained": restarted_front_end,
        "loaded": lambda: after(identified(), lambda node: node.tell(storage(0), "loaded")),
        "stranded": lambda: after(running(), lambda node: node.die(storage(0))),
    }
    node = makers[moment]()
    node.do(StopRequested("SIGTERM"))
    for _ in range(6):
        for action in list(node.actions):
            if isinstance(action, Send) and action.message["kind"] == "stop":
                node.die(action.process, DeathCause.EXIT_CLEAN)
    assert node.of(Exit) == [Exit(0)]


def after(node: Node, step: Callable[[Node], Any]) -> Node:
    step(node)
    return node


def test_nothing_is_forked_while_stopping() -> None:
    node = running()
    node.do(StopRequested("SIGTERM"))
    for process in (storage(0), CONTROLLER):
        node.die(process)
        assert not [action for action in node.actions
                    if isinstance(action, ForkStorage | ForkController | ForkFrontEnd)]
    node.tell(storage(1), "helper_wanted", purpose="scan")
    assert node.of(ForkHelper) == []


# Helpers


def test_helpers_are_bounded_and_the_next_one_follows_a_death() -> None:
    node = running()
    for _ in range(3):
        node.tell(storage(0), "helper_wanted", purpose="scan")
    assert node.of(ForkHelper) == []
    node.die(ProcessId(Role.HELPER, 1), DeathCause.EXIT_CLEAN)
    assert node.of(ForkHelper) == [ForkHelper(ProcessId(Role.HELPER, 3), storage(0), "scan")]


def test_a_killed_helper_harms_nobody() -> None:
    node = running()
    node.tell(storage(0), "helper_wanted", purpose="scan")
    node.die(ProcessId(Role.HELPER, 1), DeathCause.OUT_OF_MEMORY)
    assert node.actions == []


# Forks that the system refuses


@pytest.mark.parametrize("process", [CONTROLLER, storage(0), FRONT_END], ids=str)
def test_a_refused_fork_is_tried_again_after_a_second(process: ProcessId) -> None:
    node = running()
    node.die(process)
    if process == storage(0):
        node.tell(FRONT_END, "taken_over", index=0)
    else:
        node.wait(0)
    drain(node)
    for _ in range(10):
        node.die(process, DeathCause.NOT_FORKED)
        drain(node)
        assert node.lifecycle.next_deadline_ms() == node.now_ms + 1000
        node.wait(1000)
        assert len([action for action in node.actions
                    if isinstance(action, ForkStorage | ForkController | ForkFrontEnd)]) == 1
    assert node.lifecycle.phase is Phase.RUNNING


def drain(node: Node) -> None:
    """Every storage process that was asked to answers."""
    for record in node.lifecycle.storages:
        if record.draining:
            node.tell(storage(record.index), "drained", generation=record.generation)


def test_a_refused_helper_keeps_its_place() -> None:
    node = running()
    node.tell(storage(0), "helper_wanted", purpose="scan")
    node.die(ProcessId(Role.HELPER, 1), DeathCause.NOT_FORKED)
    assert node.of(ForkHelper) == []
    node.wait(1000)
    assert node.of(ForkHelper) == [ForkHelper(ProcessId(Role.HELPER, 2), storage(0), "scan")]


# Bad messages


ALL_KINDS = sorted({kind for kinds in LEGAL_MESSAGES.values() for kind in kinds} | {"nonsense"})
RUNNING_STATES = {CONTROLLER: State.UP, storage(0): State.UP, FRONT_END: State.ACCEPTING}
ILLEGAL = [(process, kind) for process, state in RUNNING_STATES.items() for kind in ALL_KINDS
           if state not in LEGAL_MESSAGES[process.role].get(kind, ())]


@pytest.mark.parametrize(("process", "kind"), ILLEGAL, ids=str)
def test_an_illegal_message_kills_its_sender_and_changes_nothing(process: ProcessId, kind: str) -> None:
    node = running()
    lifecycle = node.lifecycle
    before = repr((lifecycle.storages, lifecycle.controller, lifecycle.front_end, lifecycle.phase))
    node.tell(process, kind)
    assert node.shown == [Kill(process)]
    assert repr((lifecycle.storages, lifecycle.controller, lifecycle.front_end, lifecycle.phase)) == before


@pytest.mark.parametrize("fields", [{}, {"broker_epoch": "x"}, {"broker_epoch": None}, {"broker_epoch": True}])
def test_a_field_of_the_wrong_type_kills_its_sender(fields: dict[str, Any]) -> None:
    node = running()
    node.tell(CONTROLLER, "registered", **fields)
    assert node.shown == [Kill(CONTROLLER)]


def test_taking_over_what_is_not_stranded_kills_the_front_end() -> None:
    node = running()
    for index in (0, 7, -1):
        node.tell(FRONT_END, "taken_over", index=index)
        assert node.shown == [Kill(FRONT_END)]


def test_a_controller_that_came_up_while_the_front_end_was_starting_takes_office() -> None:
    """Its predecessor had registered the front end; without a word it would stand by for ever."""
    node = running()
    node.die(FRONT_END)
    for index in (0, 1):
        node.tell(storage(index), "drained", generation=1)
    node.wait(0)
    node.tell(CONTROLLER, "registered", broker_epoch=101)
    node.die(CONTROLLER)
    node.wait(0)
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    assert node.sent(CONTROLLER) == []
    node.tell(FRONT_END, "ready")
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 101}]
    (message,) = node.sent(CONTROLLER)
    assert (message["kind"], message["resume"], message["broker_epoch"]) == ("register", True, 101)


# A front end that can serve what it had refused


def test_a_front_end_that_asks_for_it_is_registered_with_a_new_epoch() -> None:
    node = running()
    node.tell(FRONT_END, "register_anew")
    (message,) = node.sent(CONTROLLER)
    assert (message["kind"], message["resume"]) == ("register", False)
    node.tell(CONTROLLER, "registered", broker_epoch=101)
    assert node.sent(FRONT_END) == [{"kind": "accept", "broker_epoch": 101}]


def test_without_a_controller_it_is_registered_anew_by_the_next_one() -> None:
    node = running()
    node.die(CONTROLLER)
    node.wait(0)
    node.tell(FRONT_END, "register_anew")
    assert node.sent(CONTROLLER) == []
    node.tell(CONTROLLER, "identity", cluster_id=CLUSTER, broker_id=BROKER)
    (message,) = node.sent(CONTROLLER)
    assert (message["kind"], message["resume"]) == ("register", False)

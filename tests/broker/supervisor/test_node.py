"""The supervisor with real forked processes: deaths, orphans, descriptors, stops. The mains are toys."""
from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.broker.supervisor.driver import ToyNode, wait_until

Start = Callable[..., ToyNode]
GONE_S_MAX = 1.0
"""Orphan protection: nobody may outlive the supervisor by more."""


def serves(node: ToyNode) -> bool:
    """An entry through each ring and a question to the controller are answered."""
    with node.client() as ask:
        ask(do="append", storage=0, slot=3)
        ask(do="append", storage=1, slot=65539)
        wait_until(lambda: ask(do="answers").count("done") >= 2, f"two completions\n{node.log}")
        return ask(do="ask controller") == "controller saw hello"


def test_a_node_starts_serves_and_stops_with_exit_code_0(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    assert serves(node)
    assert node.stop() == 0
    order = [line["process"] for line in node.events(event="stop")]
    assert (order[0], sorted(order[1:3]), order[3]) == ("front end", ["storage 0", "storage 1"], "controller")


def test_the_start_lines_say_what_runs_where(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    port = node.events("front end", "started")[0]["port"]
    wait_until(lambda: f"{node.options['log_dirs'][1]}: storage pid {node.pid('storage 1')}" in node.log, "lines")
    assert f"listening on PLAINTEXT://127.0.0.1:{port}" in node.log
    assert "broker 7 of cluster toy-cluster" in node.log
    assert f"front end pid {node.pid('front end')}, controller pid {node.pid('controller')}" in node.log


def test_processes_are_titled(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    titles = {name: psutil.Process(node.pid(name)).cmdline()[0].strip()
              for name in ("controller", "front end", "storage 0")}
    assert titles == {"controller": "ottla: controller", "front end": "ottla: front end",
                      "storage 0": f"ottla: storage {node.options['log_dirs'][0]}"}
    assert psutil.Process(node.process.pid).cmdline()[0].strip() == "ottla: supervisor"


@pytest.mark.parametrize("victim", ["storage 0", "controller", "front end"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_each_part_comes_back_alone(start_node: Start, victim: str, number: int) -> None:
    node = start_node()
    node.wait_ready()
    others = {name: node.pid(name) for name in ("storage 0", "storage 1", "controller", "front end")
              if name != victim}
    node.kill(victim, number)
    back = {"storage 0": ("front end", "storage_started", 1), "controller": ("front end", "accept", 2),
            "front end": ("front end", "accept", 2)}[victim]
    node.wait_event(*back)
    assert serves(node)
    assert {name: node.pid(name) for name in others} == others
    assert node.stop() == 0


def test_many_kills_in_a_row_are_survived(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    for round_number in range(1, 7):
        node.kill("storage 1")
        node.wait_event("front end", "storage_started", round_number)
    assert serves(node)


def test_a_new_front_end_gets_a_new_epoch_and_a_new_controller_does_not(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    node.kill("controller")
    assert node.wait_event("front end", "accept", 2)["message"]["broker_epoch"] == 100
    node.kill("front end")
    assert node.wait_event("front end", "accept", 3)["message"]["broker_epoch"] == 101


def test_connections_queue_while_the_front_end_restarts(start_node: Start) -> None:
    node = start_node(storage={"0": {"never_drains": True}})
    node.wait_ready()
    port = node.events("front end", "started")[0]["port"]
    node.kill("front end")
    wait_until(lambda: node.events("storage 1", "front_end_died"), "front end dead")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.settimeout(15)
        sock.sendall(b'{"do": "answers"}\n')
        assert sock.recv(100) == b"[]\n"


def test_entries_unanswered_at_the_death_of_storage_fail_and_poison_is_quarantined(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    with node.client() as ask:
        for death in (1, 2):
            ask(do="append", storage=0, slot=9, arg0=666)
            node.wait_event("front end", "storage_started", death)
        assert ask(do="answers") == '["failed", "failed"]'
    assert node.events("storage 0", "started")[2]["quarantined"] == [[9, 1]]
    assert "partition in slot 9" in node.log


def test_storage_that_cannot_live_is_taken_offline_and_the_rest_serves(start_node: Start) -> None:
    node = start_node(storage={"0": {"crash_at_start": True}})
    node.wait_ready()
    assert len(node.events("storage 0", "started")) == 5
    assert f"log directory {node.options['log_dirs'][0]} is offline" in node.log
    with node.client() as ask:
        ask(do="append", storage=1, slot=65536)
        wait_until(lambda: ask(do="answers") == '["done"]', "completion")


def test_the_last_directory_ends_the_node_with_an_error(start_node: Start) -> None:
    node = start_node(storage={"0": {"offline_at_start": "disk on fire"}, "1": {"crash_at_start": True}})
    assert node.wait_exit() == 1
    assert "disk on fire" in node.log
    assert "no usable log directory is left" in node.log


def test_a_foreign_directory_is_named_and_ends_the_start(start_node: Start) -> None:
    node = start_node(storage={"1": {"failed": "meta.properties belongs to cluster x"}})
    assert node.wait_exit() == 1
    assert f"{node.options['log_dirs'][1]}: meta.properties belongs to cluster x" in node.log
    assert node.events("front end") == []


def test_a_hung_front_end_is_killed_when_it_does_not_take_over(start_node: Start) -> None:
    node = start_node(front_end_never_takes_over=True)
    node.wait_ready()
    first = node.pid("front end")
    node.kill("storage 0")
    node.wait_event("front end", "accept", 2)
    assert node.pid("front end") != first
    assert serves(node)


def test_storage_that_does_not_drain_is_replaced(start_node: Start) -> None:
    node = start_node(storage={"0": {"never_drains": True}})
    node.wait_ready()
    node.kill("front end")
    node.wait_event("front end", "storage_started")
    assert node.events("storage 0", "started")[1]["restarted"]
    assert serves(node)


# Orphans and descriptors


def all_pids(node: ToyNode) -> list[int]:
    return [node.process.pid, *(node.pid(name) for name in ("storage 0", "storage 1", "controller", "front end"))]


def is_gone(process: psutil.Process) -> bool:
    """Dead; whether init has reaped it is not our affair."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_nobody_outlives_a_killed_supervisor(start_node: Start) -> None:
    node = start_node(storage={"0": {"want_helper": True}})
    node.wait_ready()
    helper_pid = int(wait_until(lambda: helper_file(node), "helper"))
    processes = [psutil.Process(pid) for pid in [*all_pids(node)[1:], helper_pid]]
    node.process.kill()
    node.process.wait()
    wait_until(lambda: all(map(is_gone, processes)), f"end of {processes}", GONE_S_MAX)


def test_a_killed_tree_lets_go_of_its_directories_and_port(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    port = node.events("front end", "started")[0]["port"]
    node.process.kill()
    node.process.wait()
    again = start_node(port=port)
    again.wait_event("front end", "accept", 2)
    assert again.stop() == 0


def test_a_child_holds_only_its_own_descriptors(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    node.kill("controller")
    node.wait_event("front end", "accept", 2)
    regions = ["/memfd:ottla-arena", "/memfd:ottla-control"]
    streams = ["AF_UNIX SOCK_STREAM"] * 2
    bells = ["anon_inode:[eventfd]"]
    controls = ["AF_UNIX SOCK_SEQPACKET"]
    lock = [f"{node.options['log_dirs'][0]}/.lock"]
    for started in node.events("controller", "started"):
        assert started["fds"] == sorted(controls + streams)
    assert node.events("storage 0", "started")[0]["fds"] == sorted(regions + lock + controls * 2 + bells * 2)
    assert node.events("front end", "started")[0]["fds"] == sorted(
        regions + ["AF_INET SOCK_STREAM"] + controls * 3 + streams + bells * 4)


def test_the_supervisor_leaks_no_descriptor_over_restarts(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    supervisor = psutil.Process(node.process.pid)
    kill_each_part(node, 1)
    before = supervisor.num_fds()
    kill_each_part(node, 2)
    assert supervisor.num_fds() == before


def kill_each_part(node: ToyNode, round_number: int) -> None:
    node.kill("storage 0")
    node.wait_event("front end", "storage_started", round_number)
    node.kill("controller")
    node.wait_event("front end", "accept", 2 * round_number)
    node.kill("front end")
    node.wait_event("front end", "accept", 2 * round_number + 1)


def test_the_peers_death_is_seen_on_the_streams(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    node.kill("front end")
    node.wait_event("controller", "stream closed")


# Helpers


def helper_file(node: ToyNode) -> str:
    path = Path(node.options["trace"] + ".helper")
    return path.read_text() if path.exists() else ""


def test_a_helper_goes_first_when_memory_is_short_and_ends_with_its_requester(start_node: Start) -> None:
    node = start_node(storage={"0": {"want_helper": True}})
    node.wait_ready()
    message = node.wait_event("storage 0", "helper")["message"]
    helper = psutil.Process(message["pid"])
    wait_until(lambda: helper.cmdline()[0].strip() == "ottla: helper toy", "title")
    wait_until(lambda: helper_file(node), "the helper's main")
    assert Path(f"/proc/{helper.pid}/oom_score_adj").read_text().strip() == "500"
    node.kill("storage 0")
    wait_until(lambda: is_gone(helper), "end of the helper")


# Stops


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_each_stop_signal_stops_in_order(start_node: Start, number: int) -> None:
    node = start_node()
    node.wait_ready()
    node.process.send_signal(number)
    assert node.wait_exit() == 0


def test_an_interrupt_to_the_whole_group_is_one_stop(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    for pid in all_pids(node)[1:]:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    node.process.send_signal(signal.SIGINT)
    assert node.wait_exit() == 0


def test_a_second_signal_ends_what_does_not_stop(start_node: Start) -> None:
    node = start_node(storage={"0": {"never_stops": True}})
    node.wait_ready()
    node.process.terminate()
    node.wait_event("storage 0", "stop")
    began = time.monotonic()
    node.process.terminate()
    assert node.wait_exit() == 1
    assert 1.5 < time.monotonic() - began < 10
    assert "did not answer in time (stop)" in node.log


def test_systemd_hears_of_ready_and_stopping(start_node: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        node = start_node(environment=environment)
        heard: list[str] = []

        def hear_until(wanted: str) -> None:
            while wanted not in heard:
                heard.append(manager.recv(1000).decode())

        hear_until("READY=1")
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in heard)
        heard.clear()
        hear_until("WATCHDOG=1")
        assert node.stop() == 0
        hear_until("STOPPING=1")


# Start errors


def test_a_second_supervisor_on_the_same_directories_is_refused(start_node: Start) -> None:
    node = start_node()
    node.wait_ready()
    second = start_node(trace=str(node.directory / "trace2"))
    assert second.wait_exit() == 1
    assert f"log directory {node.options['log_dirs'][0]} is in use: another Ottla holds its .lock" in node.log
    assert serves(node)


def test_a_taken_port_is_named(start_node: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = start_node(port=port)
        assert node.wait_exit() == 1
        assert f"listener PLAINTEXT://127.0.0.1:{port} cannot be opened: Address already in use" in node.log


def test_a_controller_that_refuses_is_quoted(start_node: Start) -> None:
    node = start_node(controller_fails="the metadata store is used by broker 3")
    assert node.wait_exit() == 1
    assert "controller: the metadata store is used by broker 3" in node.log
    assert "Traceback" not in node.log


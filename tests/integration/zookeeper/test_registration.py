"""A node's life in a real ZooKeeper: sessions, registrations and offices through deaths and outages of either."""
from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.kept_session import KEPT_SESSION_FILE
from tests.integration.test_whose_directory import refusal
from tests.integration.zookeeper.tree import Tree, expire, tree, wait_for
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.wire import WireConnection, WireError, has_leaders, wait_for_leaders
from tests.peers.zookeeper import KAFKAS, ZooKeeperServer, classpath

SESSION_TIMEOUT_MS = 4000
LONG_SESSION_TIMEOUT_MS = 10_000
CHROOT = "/kafka"
REGISTRATION = "/brokers/ids/1"
MakeOttla = Callable[..., OttlaBroker]


@pytest.fixture(scope="module")
def module_server(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """Of this module's own: it is stopped and started."""
    made = ZooKeeperServer(classpath(KAFKAS), tmp_path_factory.mktemp("zookeeper"))
    yield made
    made.kill()


@pytest.fixture
def server(module_server: ZooKeeperServer) -> ZooKeeperServer:
    """Running, whatever the test before has left."""
    if not module_server.mode:
        module_server.kill()
        module_server.start()
    return module_server


@pytest.fixture
def chroot(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


@pytest.fixture
def seen(server: ZooKeeperServer, chroot: str) -> Iterator[Tree]:
    with tree(server.connect_string, chroot) as found:
        yield found


@pytest.fixture
def node(server: ZooKeeperServer, chroot: str, make_ottla: MakeOttla) -> OttlaBroker:
    return make_ottla(overrides=settings(server, chroot))


@pytest.fixture
def patient_node(server: ZooKeeperServer, chroot: str, make_ottla: MakeOttla) -> OttlaBroker:
    """Whose session outlives whatever is restarted, on a busy machine too."""
    return make_ottla(overrides=settings(server, chroot, LONG_SESSION_TIMEOUT_MS))


def settings(server: ZooKeeperServer, chroot: str, timeout_ms: int = SESSION_TIMEOUT_MS) -> dict[str, str]:
    return {"zookeeper.connect": server.connect_string + chroot,
            "zookeeper.session.timeout.ms": str(timeout_ms)}


def kept(node: OttlaBroker) -> Path:
    return node.log_dirs[0] / KEPT_SESSION_FILE


def epoch(seen: Tree) -> int:
    return int(seen.data("/controller_epoch") or b"0")


def leads(seen: Tree) -> bool:
    return b'"brokerid":1' in (seen.data("/controller") or b"")


def wait_for_topic(node: OttlaBroker, name: str, seconds: float = 20) -> None:
    """It can be created, now or after a few tries, and has a leader."""
    def is_created() -> bool:
        try:
            with WireConnection(node.address) as connection:
                connection.create_topic(name, 1)
        except WireError as error:
            return "error code 36 " in str(error)  # an earlier try has made it
        return True

    wait_for(is_created, f"topic {name} is created", seconds)
    wait_for_leaders(node.address, {name: 1})


def serves(node: OttlaBroker, name: str) -> bool:
    return has_leaders(node.address, {name: 1})


def test_start_makes_the_chroot_and_registers_and_leads(node: OttlaBroker, seen: Tree) -> None:
    node.start()
    wait_for(lambda: leads(seen), "the node leads")
    registration = json.loads(seen.data(REGISTRATION) or b"")
    assert registration["endpoints"] == [f"PLAINTEXT://127.0.0.1:{node.port}"]
    assert seen.owner(REGISTRATION) == seen.owner("/controller") != 0
    assert stat.S_IMODE(kept(node).stat().st_mode) == 0o600
    wait_for_topic(node, "t")
    assert node.stop() == 0
    assert (seen.owner(REGISTRATION), seen.owner("/controller")) == (0, 0)
    assert not kept(node).exists()


def test_new_controller_process_resumes_the_session_and_keeps_the_broker_epoch(
        patient_node: OttlaBroker, seen: Tree) -> None:
    patient_node.start()
    wait_for_topic(patient_node, "t")
    state = "/brokers/topics/t/partitions/0/state"
    before = seen.czxid(REGISTRATION), seen.owner(REGISTRATION), seen.data(state)
    controller_epoch = epoch(seen)
    patient_node.kill_process("ottla: controller")
    wait_for(lambda: epoch(seen) == controller_epoch + 1, "the new process is elected")
    wait_for_topic(patient_node, "u")
    assert (seen.czxid(REGISTRATION), seen.owner(REGISTRATION), seen.data(state)) == before


def test_new_front_end_has_a_new_broker_epoch_in_the_same_session(patient_node: OttlaBroker, seen: Tree) -> None:
    patient_node.start()
    wait_for_topic(patient_node, "t")
    before, owner = seen.czxid(REGISTRATION), seen.owner(REGISTRATION)
    patient_node.kill_process("ottla: front end")
    wait_for(lambda: seen.czxid(REGISTRATION) > before, "the node is registered anew")
    assert seen.owner(REGISTRATION) == owner
    patient_node.wait_until_serving()
    wait_for_topic(patient_node, "u")


def test_restarted_zookeeper_is_the_same_session_and_the_same_office(
        server: ZooKeeperServer, patient_node: OttlaBroker, seen: Tree) -> None:
    patient_node.start()
    wait_for_topic(patient_node, "t")
    before = (seen.czxid(REGISTRATION), seen.owner("/controller"), epoch(seen))
    server.stop()
    server.start()
    wait_for_topic(patient_node, "u")
    assert (seen.czxid(REGISTRATION), seen.owner("/controller"), epoch(seen)) == before


def test_zookeeper_away_beyond_the_session_is_served_through_and_caught_up_with(
        server: ZooKeeperServer, node: OttlaBroker, seen: Tree) -> None:
    node.start()
    wait_for_topic(node, "t")
    controller_epoch = epoch(seen)
    server.stop()
    deadline = time.monotonic() + 1.5 * SESSION_TIMEOUT_MS / 1000
    while time.monotonic() < deadline:
        assert serves(node, "t")
        time.sleep(0.2)
    assert "controller epoch" in node.log_text()
    server.start()
    wait_for_topic(node, "u")
    assert epoch(seen) > controller_epoch
    assert node.log_text().count("started controller") == 1


def test_expired_session_is_replaced_without_a_restart(
        server: ZooKeeperServer, node: OttlaBroker, seen: Tree) -> None:
    node.start()
    wait_for_topic(node, "t")
    for _ in range(3):
        before, session = seen.czxid(REGISTRATION), json.loads(kept(node).read_text())
        expire(server.connect_string, int(session["session"], 16), bytes.fromhex(session["password"]))
        wait_for(lambda: seen.czxid(REGISTRATION) > before, "the node is registered anew")  # noqa: B023
        wait_for(lambda: leads(seen), "the node leads again")
        assert json.loads(kept(node).read_text()) != session
    wait_for_topic(node, "u")
    assert serves(node, "t")
    assert node.log_text().count("started controller") == 1


def test_killed_node_takes_its_own_registration_over_at_once(patient_node: OttlaBroker, seen: Tree) -> None:
    patient_node.start()
    wait_for_topic(patient_node, "t")
    before, owner = seen.czxid(REGISTRATION), seen.owner(REGISTRATION)
    patient_node.kill()
    assert seen.owner(REGISTRATION) == owner
    patient_node.start()
    assert "is still registered by session" not in patient_node.log_text()
    assert (seen.czxid(REGISTRATION) > before, seen.owner(REGISTRATION)) == (True, owner)
    wait_for_topic(patient_node, "u")


def test_killed_node_without_its_kept_session_waits_it_out_and_says_so(node: OttlaBroker, seen: Tree) -> None:
    node.start()
    owner = seen.owner(REGISTRATION)
    node.kill()
    kept(node).unlink()
    node.start()
    log = node.log_text()
    assert f"broker.id 1 is still registered by session {owner:#x}" in log
    assert f"PLAINTEXT://127.0.0.1:{node.port}" in log
    assert "waiting for it, at most 7 s" in log
    assert seen.owner(REGISTRATION) not in (0, owner)


def test_copy_of_a_directory_does_not_take_the_session_of_the_broker_that_lives(
        server: ZooKeeperServer, chroot: str, node: OttlaBroker, make_ottla: MakeOttla, seen: Tree) -> None:
    node.start()
    owner = seen.owner(REGISTRATION)
    other = make_ottla(overrides=settings(server, chroot))
    other.log_dirs[0].mkdir(parents=True)
    for name in (KEPT_SESSION_FILE, "meta.properties"):
        (other.log_dirs[0] / name).write_bytes((node.log_dirs[0] / name).read_bytes())
    line = refusal_after_registration(other)
    assert "broker.id 1 is taken: /brokers/ids/1 belongs to session" in line
    assert f"{owner:#x}" in line and f"PLAINTEXT://127.0.0.1:{node.port}" in line
    assert seen.owner(REGISTRATION) == owner


def refusal_after_registration(broker: OttlaBroker) -> str:
    """The line with which a start ends that had everything but its registration."""
    process = broker.spawn()
    wait_for(lambda: process.return_code is not None, "ottla gives up", 30)
    assert process.return_code == 1, process.log_text()
    return next(line for line in process.log_text().splitlines() if " ERROR [supervisor] " in line)


def test_address_of_another_live_broker_is_refused_with_both_values(
        server: ZooKeeperServer, chroot: str, node: OttlaBroker, make_ottla: MakeOttla) -> None:
    node.start()
    advertised = f"PLAINTEXT://127.0.0.1:{node.port}"
    other = make_ottla(broker_id=2, overrides={**settings(server, chroot), "advertised.listeners": advertised})
    line = refusal_after_registration(other)
    assert f"broker 2 advertises {advertised}, and so does broker 1 (/brokers/ids/1)" in line


def test_other_cluster_is_refused_with_both_ids_and_nothing_is_changed(
        server: ZooKeeperServer, chroot: str, node: OttlaBroker, seen: Tree) -> None:
    node.start()
    assert node.stop() == 0
    ours = json.loads(seen.data("/cluster/id") or b"")["id"]
    seen.client.set(chroot + "/cluster/id", b'{"version":"1","id":"AAAAAAAAAAAAAAAAAAAAAA"}')
    before = seen.walk()
    line = refusal(node)
    for part in (f"meta.properties says cluster.id={ours}", "is of cluster.id=AAAAAAAAAAAAAAAAAAAAAA (/cluster/id)",
                 server.connect_string + chroot, "zookeeper.connect", "log.dirs"):
        assert part in line
    assert seen.walk() == before


def test_empty_zookeeper_is_refused_to_directories_that_have_a_cluster(
        server: ZooKeeperServer, chroot: str, node: OttlaBroker, make_ottla: MakeOttla) -> None:
    node.start()
    assert node.stop() == 0
    elsewhere = make_ottla(overrides=settings(server, f"{chroot}-wrong"), log_dirs=node.log_dirs)
    line = refusal(elsewhere)
    assert "has no cluster yet (/cluster/id is missing)" in line
    assert "Nothing was changed" in line
    with tree(server.connect_string, f"{chroot}-wrong") as wrong:
        assert wrong.walk() == {}


def test_wrong_broker_id_is_refused_with_both_ids(node: OttlaBroker, make_ottla: MakeOttla, server: ZooKeeperServer,
                                                  chroot: str) -> None:
    node.start()
    assert node.stop() == 0
    other = make_ottla(broker_id=5, overrides=settings(server, chroot), log_dirs=node.log_dirs)
    line = refusal(other)
    assert "says broker.id=1, but this broker is 5" in line


def test_generated_id_is_made_once_and_kept(server: ZooKeeperServer, chroot: str, make_ottla: MakeOttla,
                                            seen: Tree) -> None:
    first = make_ottla(broker_id=-1, overrides=settings(server, chroot))
    second = make_ottla(broker_id=-1, overrides=settings(server, chroot))
    for broker in (first, second):
        broker.start()
    assert sorted(seen.client.get_children(chroot + "/brokers/ids")) == ["1001", "1002"]
    assert second.stop() == 0
    second.start()
    assert sorted(seen.client.get_children(chroot + "/brokers/ids")) == ["1001", "1002"]


def test_unreachable_zookeeper_refuses_the_start_with_its_name(make_ottla: MakeOttla) -> None:
    broker = make_ottla(overrides={"zookeeper.connect": "127.0.0.1:1/kafka",
                                   "zookeeper.connection.timeout.ms": "1000"})
    assert "127.0.0.1:1" in refusal(broker)


def test_start_that_waits_for_zookeeper_can_be_stopped(make_ottla: MakeOttla) -> None:
    broker = make_ottla(overrides={"zookeeper.connect": "127.0.0.1:1/kafka",
                                   "zookeeper.connection.timeout.ms": "60000"})
    broker.spawn()
    wait_for(lambda: "started controller" in broker.log_text(), "the controller process runs")
    time.sleep(1)
    began = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - began < 6


def test_controller_that_dies_while_zookeeper_is_away_does_not_take_the_node_with_it(
        server: ZooKeeperServer, node: OttlaBroker, seen: Tree) -> None:
    node.start()
    wait_for_topic(node, "t")
    server.stop()
    node.kill_process("ottla: controller")
    time.sleep(3)
    assert serves(node, "t")
    server.start()
    wait_for_topic(node, "u")
    node.check_running()


def test_front_end_that_dies_while_zookeeper_is_away_is_registered_when_it_is_back(
        server: ZooKeeperServer, node: OttlaBroker, seen: Tree) -> None:
    node.start()
    wait_for_topic(node, "t")
    before = seen.czxid(REGISTRATION)
    server.stop()
    node.kill_process("ottla: front end")
    time.sleep(3)
    node.check_running()
    server.start()
    wait_for_topic(node, "u")
    assert seen.czxid(REGISTRATION) > before
    assert serves(node, "t")


def test_stop_while_zookeeper_is_away_is_quick(
        server: ZooKeeperServer, chroot: str, make_ottla: MakeOttla) -> None:
    """Controlled shutdown aside, which asks three times for a controller, as Kafka does."""
    node = make_ottla(overrides={**settings(server, chroot), "controlled.shutdown.enable": "false"})
    node.start()
    server.stop()
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < 6


def test_supervisor_that_is_killed_leaves_a_session_to_resume(patient_node: OttlaBroker, seen: Tree) -> None:
    patient_node.start()
    owner = seen.owner(REGISTRATION)
    os.kill(patient_node.pid, signal.SIGKILL)
    patient_node.kill()
    patient_node.start()
    assert seen.owner(REGISTRATION) == owner

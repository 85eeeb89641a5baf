"""What the design promises for the death of each part, under load, with the times that it names."""
from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from tests.crash.clients import LIFE_SIGN_SECONDS, create_topic_patiently
from tests.crash.load import Load
from tests.crash.log_files import partition_paths
from tests.crash.node import Node, is_alive, seconds_until
from tests.crash.probe import DoorWatcher, all_serve, watermarks
from tests.peers.wire import API_VERSIONS, WireConnection, request_frame

TOPIC = "wide"
PARTITIONS = range(100)
BACK_SECONDS_MAX = 2.0
CREATION_SECONDS_MAX = 5.0
ORPHAN_SECONDS_MAX = 1.0


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """Running, with a topic of 100 partitions over two directories."""
    node = make_node()
    node.start()
    assert create_topic_patiently(node.address, TOPIC, len(PARTITIONS))
    return node


def report(what: str, seconds: object) -> None:
    """Shown with `pytest -rP`."""
    print(f"{what}: {seconds} s")


def places_in(node: Node, directory: int) -> list[tuple[str, int]]:
    names = [path.name for path in partition_paths([node.log_dirs[directory]])]
    return [(TOPIC, int(name.rpartition("-")[2])) for name in names]


def all_back(node: Node) -> bool:
    return all_serve(node.address, TOPIC, PARTITIONS)


def strike_and_time(node: Node, part: str) -> float:
    """Seconds from the signal until a successor runs and every partition serves again."""
    (dead,) = node.strike(part)
    return seconds_until(lambda: node.live_pid(part) not in (None, dead) and all_back(node),
                         f"{part} is back and all partitions serve", LIFE_SIGN_SECONDS)


def test_a_storage_death_does_not_touch_the_other_directory(node: Node) -> None:
    hit, spared = places_in(node, 0), places_in(node, 1)
    assert len(hit) == len(spared) == len(PARTITIONS) // 2
    load = Load(node)
    load.writer(hit)
    load.writer(spared, patient=False)
    load.reader("reader of the hit", hit)
    load.reader("reader of the spared", spared)
    times = []
    with load.running():
        time.sleep(0.5)
        for _ in range(3):
            times.append(strike_and_time(node, "storage 0"))
            time.sleep(0.3)
    load.judge()
    report("storage back", times)
    assert max(times) <= BACK_SECONDS_MAX, times


def test_a_front_end_death_queues_clients_and_keeps_the_watermarks(node: Node) -> None:
    places = [(TOPIC, number) for number in PARTITIONS]
    load = Load(node)
    load.writer(places, records_per_second=1000)
    load.reader("reader", places)
    door = DoorWatcher(node.address)
    times = []
    with load.running():
        door.start()
        time.sleep(0.5)
        for _ in range(3):
            before = watermarks(node.address, TOPIC, PARTITIONS)
            with accepted_connection(node) as held:
                times.append(strike_and_time(node, "front end"))
                assert was_dropped(held)
            after = watermarks(node.address, TOPIC, PARTITIONS)
            assert [number for number in PARTITIONS if after[number] < before[number]] == []
            time.sleep(0.3)
        door.end()
    load.judge()
    report("front end back", times)
    assert door.refused == []
    assert max(*times, door.longest_wait_seconds) <= BACK_SECONDS_MAX, (times, door.longest_wait_seconds)


def accepted_connection(node: Node) -> socket.socket:
    """One that the front end has answered on; else it might be waiting at the door for the next one."""
    connection = socket.create_connection(node.address)
    connection.sendall(request_frame(API_VERSIONS, 0, 1, b""))
    connection.recv(1)
    return connection


def was_dropped(connection: socket.socket) -> bool:
    """An end of file or a reset, without waiting for it."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False
    return True


def test_nobody_notices_a_controller_death_but_who_creates_topics(node: Node) -> None:
    places = [(TOPIC, number) for number in PARTITIONS]
    load = Load(node)
    load.writer(places, patient=False)
    load.reader("reader", places)
    times = []
    with load.running(), WireConnection(node.address) as kept:
        time.sleep(0.5)
        for attempt in range(3):
            node.strike("controller")
            started = time.monotonic()
            assert create_topic_patiently(node.address, f"after-{attempt}", 3)
            times.append(time.monotonic() - started)
            assert all_back(node)
        kept.api_versions()
    load.judge()
    report("topic created after controller death", times)
    assert max(times) <= CREATION_SECONDS_MAX, times


def test_nothing_survives_the_supervisor(node: Node) -> None:
    pids = node.strike_supervisor()
    seconds = seconds_until(lambda: not any(map(is_alive, pids)), "all of the tree is gone", LIFE_SIGN_SECONDS)
    report("tree gone", seconds)
    assert len(pids) == 4
    assert seconds <= ORPHAN_SECONDS_MAX
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(node.address, 1):
        pytest.fail("somebody still listens")

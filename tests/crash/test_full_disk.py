"""A log directory that fills to its last byte at random moments, and again has room.

Refused with a retriable error, never offline, never lost: fetches and restarts go on while it is full, and
producing goes on by itself when there is room again.
"""
from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from tests.conftest import unavailable
from tests.crash.clients import create_topic_patiently, delete_topic_patiently, producer_settings, read_logs
from tests.crash.load import Load, impatient
from tests.crash.log_files import check_directories, partition_paths
from tests.crash.node import Node, seconds_until
from tests.crash.small_disk import SmallDisk, small_disk
from tests.crash.values import Stamp, make_value
from tests.peers.processes import PeerUnavailableError
from tests.peers.wire import wait_for_leaders

DISK_BYTES = 24 << 20
TOPIC = "filled"
PLACES = [(TOPIC, number) for number in range(4)]
SETTINGS = {
    "log_segment_bytes": 128 << 10, "log_index_interval_bytes": 1024,
    "replica_high_watermark_checkpoint_interval_ms": 200, "log_flush_offset_checkpoint_interval_ms": 300,
}
RESUMED_SECONDS_MAX = 2.0
REFUSED_SECONDS_MAX = 5.0
CREATED_SECONDS_MAX = 15.0
"""The front end looks every ten seconds."""
EPISODES = 3
SLOW_SEEDS = range(100, 130)
PROBER = 50
"""Its producer number."""
ANSWER_SECONDS_MAX = 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "small", DISK_BYTES) as disk:
            yield disk
    except PeerUnavailableError as error:
        unavailable(error)


@pytest.fixture
def node(disk: SmallDisk, make_node: Callable[..., Node]) -> Iterator[Node]:
    """Everything it has, metadata too, is on the small disk."""
    node = make_node([disk.path / "a"], **SETTINGS)
    node.start()
    assert create_topic_patiently(node.address, TOPIC, len(PLACES))
    yield node
    node.close()


class Prober:
    """Produces one record at a time, without a second attempt, and says what was answered."""

    def __init__(self, node: Node, load: Load) -> None:
        self._ledger = load.ledger
        self._producer = Producer(impatient(producer_settings(node.bootstrap, idempotent=False)))
        self._sequences = dict.fromkeys(PLACES, 0)

    def try_once(self, place: tuple[str, int]) -> int:
        """Error code, 0 for none."""
        stamp = Stamp(PROBER, *place, self._sequences[place])
        self._sequences[place] += 1
        answers: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, message: object) -> None:
            answers.append(error)
            if error is None:
                self._ledger.acked(stamp, message.offset())

        self._producer.produce(place[0], make_value(stamp), partition=place[1], on_delivery=on_delivery)
        self._producer.flush(ANSWER_SECONDS_MAX + 1)
        error = answers[0] if answers else None
        assert answers, "no answer"
        return 0 if error is None else error.code()


def refused(prober: Prober) -> None:
    """Every partition refuses, sooner or later (a page that was begun still has room), with that error only."""
    for place in PLACES:
        deadline = time.monotonic() + REFUSED_SECONDS_MAX
        while (code := prober.try_once(place)) == 0:
            assert time.monotonic() < deadline, f"{place} is still taken on a full disk"
        assert code == KafkaError.NOT_ENOUGH_REPLICAS, f"{place} answered {code}"


def resumes(prober: Prober) -> float:
    return max(seconds_until(lambda place=place: prober.try_once(place) == 0, f"{place} is taken again", 15)
               for place in PLACES)


def restart(node: Node, draw: random.Random) -> str:
    """On the full disk: in order, or after kill -9."""
    how = draw.choice(("stop", "kill"))
    if how == "stop":
        node.stop()
    else:
        node.strike_tree()
    node.start()
    return how


def run(node: Node, disk: SmallDisk, seed: int) -> None:
    draw = random.Random(seed)
    load = Load(node)
    for _ in range(2):
        load.writer(PLACES, records_per_second=500)
    load.reader("reader", PLACES)
    prober = Prober(node, load)
    with load.running():
        for _ in range(EPISODES):
            time.sleep(draw.uniform(0.1, 0.8))
            disk.fill()
            load.ledger.note("full")
            refused(prober)
            if draw.random() < 0.7:
                load.ledger.note(restart(node, draw))
                disk.fill()
                refused(prober)
            read_logs(node.bootstrap, node.address, PLACES)
            disk.free(left_bytes=draw.choice((0, 4 << 20)))
            seconds = resumes(prober)
            load.ledger.note(f"taken again after {seconds:.2f} s")
            assert seconds <= RESUMED_SECONDS_MAX, (seed, load.ledger.timeline)
    load.judge()
    served = read_logs(node.bootstrap, node.address, PLACES)
    assert node.stop() == 0
    assert len(node.markers()) == 1
    assert check_directories(node.log_dirs, served) == []


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW_SEEDS)])
def test_nothing_acknowledged_is_lost_and_producing_resumes_by_itself(
        disk: SmallDisk, tmp_path: Path, make_node: Callable[..., Node], seed: int) -> None:
    """Even seeds: the metadata, with its reserve, is on the same disk; odd ones: it lies elsewhere."""
    elsewhere = {"ottla_metadata_path": tmp_path / "metadata.sqlite"} if seed % 2 else {}
    node = make_node([disk.path / "a"], **SETTINGS, **elsewhere)
    node.start()
    assert create_topic_patiently(node.address, TOPIC, len(PLACES))
    run(node, disk, seed)


def test_the_other_directory_does_not_notice(
        disk: SmallDisk, tmp_path: Path, make_node: Callable[..., Node]) -> None:
    node = make_node([tmp_path / "roomy", disk.path / "full"], **SETTINGS)
    node.start()
    assert create_topic_patiently(node.address, TOPIC, len(PLACES))
    roomy = [(TOPIC, int(path.name.rpartition("-")[2])) for path in partition_paths([tmp_path / "roomy"])]
    assert len(roomy) == len(PLACES) // 2
    load = Load(node)
    load.writer(roomy, patient=False)
    load.reader("reader", roomy)
    with load.running():
        time.sleep(0.3)
        disk.fill()
        time.sleep(1)
        disk.free()
        time.sleep(0.3)
    load.judge()


def test_a_topic_without_room_for_its_logs_is_served_once_there_is_room(
        disk: SmallDisk, tmp_path: Path, make_node: Callable[..., Node]) -> None:
    """The metadata has room; nothing half-made is left in the log directory meanwhile."""
    node = make_node([disk.path / "full"], ottla_metadata_path=tmp_path / "metadata.sqlite", **SETTINGS)
    node.start()
    disk.fill()
    assert not create_topic_patiently(node.address, "no-room", 2, timeout_seconds=1)
    assert partition_paths(node.log_dirs) == []
    disk.free()
    assert wait_for_leaders(node.address, {"no-room": 2}, CREATED_SECONDS_MAX) <= CREATED_SECONDS_MAX
    load = Load(node)
    load.writer([("no-room", 0), ("no-room", 1)], patient=False)
    with load.running():
        time.sleep(0.3)
    load.judge()


def test_a_topic_can_be_deleted_to_make_room(node: Node, disk: SmallDisk) -> None:
    load = Load(node)
    load.writer(PLACES, records_per_second=800)
    with load.running():
        time.sleep(1)
    disk.fill()
    assert delete_topic_patiently(node.address, TOPIC)
    assert partition_paths(node.log_dirs) == []

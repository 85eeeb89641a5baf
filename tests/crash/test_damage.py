"""Directories damaged at random while the node is down: what is not lost is served, and all files are whole again.

The directories are written once; each seed damages a copy and starts a node on it.
"""
from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.clients import create_topic_patiently, read_logs
from tests.crash.damage import hides_times, spoil_derived_files, tear_tails
from tests.crash.ledger import TopicPartition
from tests.crash.load import Load
from tests.crash.log_files import Records, check_directories
from tests.crash.node import Node
from tests.peers.wire import WireConnection

PLACES = [("hurt", number) for number in range(6)]
SETTINGS = {"log.segment.bytes": str(100 << 10), "log.index.interval.bytes": "600",
            "log.flush.offset.checkpoint.interval.ms": "60000"}
WRITE_SECONDS = 2.5
TIME_LOOKUPS = 30
CI_SEEDS = range(4)
SLOW_SEEDS = range(100, 160)


class Written(NamedTuple):
    """directory: holds a and b. records: what a reader got of them before the node ended.

    is_clean: it carries the clean-shutdown marker. Then, as with Kafka, nobody looks into the indexes of older
    segments at the start; reads have to get around what is wrong with them, answers by time as far as it shows.
    """

    directory: Path
    records: dict[TopicPartition, Records]
    is_clean: bool


def write(work_dir: Path, *, stop_cleanly: bool) -> Written:
    node = Node(work_dir, SETTINGS, log_dirs=[work_dir / "a", work_dir / "b"])
    try:
        node.start()
        assert create_topic_patiently(node.address, "hurt", len(PLACES))
        load = Load(node)
        for _ in range(3):
            load.writer(PLACES, records_per_second=700)
        with load.running():
            time.sleep(WRITE_SECONDS)
        load.judge()
        records = read_logs(node.bootstrap, node.address, PLACES)
        if stop_cleanly:
            assert node.stop() == 0
    finally:
        node.close()
    return Written(work_dir, records, stop_cleanly)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("stopped"), stop_cleanly=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("killed"), stop_cleanly=False)


@pytest.fixture
def copy_of(tmp_path: Path) -> Iterator[object]:
    """copy_of(written) -> a node, not started, on a copy of its directories."""
    made: list[Node] = []

    def copy(written: Written) -> Node:
        log_dirs = [tmp_path / "a", tmp_path / "b"]
        for log_dir in log_dirs:
            shutil.copytree(written.directory / log_dir.name, log_dir)
        made.append(Node(tmp_path, SETTINGS, log_dirs=log_dirs))
        return made[-1]

    yield copy
    for node in made:
        node.close()


def check_served(
        node: Node, expected: dict[TopicPartition, Records], damage: list[str], draw: random.Random, *,
        indexes: bool = True) -> None:
    """Everything expected can be read, found by time, and written behind; the files are whole afterwards.

    indexes: those must be right again, too.
    """
    told = "\n".join([*damage, node.log_text()[-5000:]])
    served = read_logs(node.bootstrap, node.address, PLACES)
    for place in PLACES:
        assert served[place] == expected[place], f"{place}: {len(served[place])} of {len(expected[place])}\n{told}"
    if indexes or not hides_times(damage):
        check_times(node, expected, draw, told)
    load = Load(node)
    load.writer(PLACES, records_per_second=500).number += 10
    with load.running():
        time.sleep(0.3)
    after = read_logs(node.bootstrap, node.address, PLACES)
    for place in PLACES:
        assert after[place][:len(expected[place])] == expected[place], f"{place}\n{told}"
    assert node.stop() == 0, told
    assert check_directories(node.log_dirs, after, indexes=indexes) == [], told


def check_times(node: Node, expected: dict[TopicPartition, Records], draw: random.Random, told: str) -> None:
    """ListOffsets by time, for timestamps between the first and a little after the last."""
    with WireConnection(node.address) as connection:
        for _ in range(TIME_LOOKUPS):
            place = draw.choice([place for place in PLACES if expected[place]])
            times = [timestamp for _, _, timestamp in expected[place]]
            wanted = draw.randint(min(times) - 1, max(times) + 1)
            first = next((offset for offset, _, timestamp in expected[place] if timestamp >= wanted), -1)
            assert connection.list_offset(*place, wanted) == first, f"{place} at {wanted}\n{told}"


def spoiled(written: Written, node: Node, seed: int) -> None:
    draw = random.Random(seed)
    damage = [f"seed {seed}", *spoil_derived_files(node.log_dirs, draw)]
    node.start()
    check_served(node, written.records, damage, draw, indexes=not written.is_clean)


def torn(written: Written, node: Node, seed: int) -> None:
    draw = random.Random(seed)
    tears = tear_tails(node.log_dirs, draw)
    ends = {tear.place: tear.next_offset for tear in tears}
    expected = {place: [record for record in records if record[0] < ends.get(place, len(records))]
                for place, records in written.records.items()}
    damage = [f"seed {seed}", *(f"{tear.what}, lost from offset {tear.next_offset}" for tear in tears)]
    if draw.random() < 0.5:
        damage += spoil_derived_files(node.log_dirs, draw)
    node.start()
    check_served(node, expected, damage, draw)


@pytest.mark.parametrize("seed", CI_SEEDS)
def test_spoilt_indexes_and_checkpoints_of_a_stopped_node_cost_no_record(stopped, copy_of, seed) -> None:
    spoiled(stopped, copy_of(stopped), seed)


@pytest.mark.parametrize("seed", CI_SEEDS)
def test_spoilt_indexes_and_checkpoints_of_a_killed_node_cost_no_record(killed, copy_of, seed) -> None:
    spoiled(killed, copy_of(killed), seed)


@pytest.mark.parametrize("seed", CI_SEEDS)
def test_a_torn_tail_costs_what_lies_behind_the_tear_and_no_more(killed, copy_of, seed) -> None:
    torn(killed, copy_of(killed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_many_kinds_of_damage(stopped, killed, copy_of, seed) -> None:
    damage, written = random.Random(seed).choice([(spoiled, stopped), (spoiled, killed), (torn, killed)])
    damage(written, copy_of(written), seed)

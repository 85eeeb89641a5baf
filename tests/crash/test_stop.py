"""The two ends of a node under load: a clean stop that the next start believes, and `kill -9` of everything."""
from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest

from tests.crash.clients import create_topic_patiently
from tests.crash.load import Load
from tests.crash.log_files import check_directories, partition_paths, segment_paths
from tests.crash.node import Node

PLACES = [("steady", number) for number in range(6)]
SMALL_SEGMENTS = {"log_segment_bytes": 128 << 10, "log_index_interval_bytes": 1024}
LOAD_SECONDS = 1.0
RECOVERED = re.compile(r"steady-\d+ recovered: \d+ segments, \d+ bytes read")  # consumers make a topic of their own


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    node = make_node(**SMALL_SEGMENTS)
    node.start()
    assert create_topic_patiently(node.address, "steady", len(PLACES))
    return node


def loaded(node: Node) -> Load:
    load = Load(node)
    load.writer(PLACES, records_per_second=800)
    load.writer(PLACES, records_per_second=800)
    load.reader("reader", PLACES)
    return load


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_is_clean_and_the_next_start_recovers_nothing(node: Node, signal_number: int) -> None:
    load = loaded(node)
    with load.running():
        time.sleep(LOAD_SECONDS)
        assert node.stop(signal_number) == 0
        assert len(node.markers()) == len(node.log_dirs)
        assert check_directories(node.log_dirs, {}) == []
        node.start()
        assert "recovered:" not in node.log_text()
        assert "WARN" not in node.log_text()
        assert node.markers() == []
        time.sleep(LOAD_SECONDS / 2)
    load.judge()


def test_after_kill_9_of_everything_the_next_start_recovers_and_says_what_it_did(node: Node) -> None:
    load = loaded(node)
    with load.running():
        time.sleep(LOAD_SECONDS)
        node.strike_tree()
        assert node.markers() == []
        node.start()
        assert len(RECOVERED.findall(node.log_text())) == len(PLACES)
        time.sleep(LOAD_SECONDS / 2)
    load.judge()


def test_a_torn_write_is_cut_off_with_file_position_and_bytes(node: Node) -> None:
    """As a power cut leaves it: the first part of a batch behind the last whole one."""
    load = loaded(node)
    with load.running():
        time.sleep(LOAD_SECONDS)
    node.strike_tree()
    partition = next(path for path in partition_paths(node.log_dirs) if path.name.startswith("steady"))
    last = segment_paths(partition)[-1]
    size = last.stat().st_size
    first_batch = last.read_bytes()[:1000]
    last.write_bytes(last.read_bytes() + first_batch[:77])
    node.start()
    cut = next(line for line in node.log_text().splitlines() if str(last) in line and "WARN" in line)
    assert re.search(rf"\b{size}\b", cut), cut
    assert re.search(r"\b77\b", cut), cut
    assert last.stat().st_size == size
    load.judge()

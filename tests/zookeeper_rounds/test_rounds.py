"""Rounds of the seeded harness on real ZooKeeper: 20 in CI, 200 and 50 of expiry by hand (`-m slow`)."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.peers.processes import PeerUnavailableError
from tests.zookeeper_rounds.cluster import running_cluster
from tests.zookeeper_rounds.rounds import NAMESPACE_STROKES, STROKES, Rounds

WRITES_PER_ROUND_MIN = 10
"""Else there was nothing to judge."""

EXPIRIES = ("expire", "expire_all")
PLACES = [(2, 1), (3, 1), (3, 3)]
CI_ROUNDS = {(2, 1): range(10, 17), (3, 1): range(20, 27), (3, 3): range(30, 36)}


def run_rounds(work_dir: Path, place: tuple[int, int], seeds: range, strokes: tuple[str, ...] = STROKES, *,
               in_namespace: bool = False) -> None:
    """place: number of nodes, number of ZooKeeper servers."""
    try:
        with running_cluster(work_dir, *place, in_namespace=in_namespace) as cluster:
            rounds = Rounds(cluster, strokes)
            for seed in seeds:
                rounds.run(seed)
            assert rounds.controller_writes() > WRITES_PER_ROUND_MIN * len(seeds)
    except PeerUnavailableError as error:
        unavailable(error)


@pytest.mark.parametrize("place", PLACES)
def test_one_leads_and_all_is_served_after_every_stroke(place: tuple[int, int], tmp_path: Path) -> None:
    run_rounds(tmp_path, place, CI_ROUNDS[place])


def test_packets_that_the_kernel_loses_are_as_good_as_a_proxy_that_does(tmp_path: Path) -> None:
    run_rounds(tmp_path, (2, 1), range(40, 44), NAMESPACE_STROKES, in_namespace=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place", PLACES)
def test_seventy_rounds_each(place: tuple[int, int], tmp_path: Path) -> None:
    run_rounds(tmp_path, place, range(1000, 1070))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nobody_needs_a_restart_after_fifty_expiries(tmp_path: Path) -> None:
    run_rounds(tmp_path, (3, 1), range(2000, 2050), EXPIRIES)

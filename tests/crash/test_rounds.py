"""Rounds of the seeded harness: 20 in CI, 200 by hand (`-m slow`). See README.md for single seeds."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.rounds import run_round

CI_SEEDS = range(20)
SLOW_SEEDS = range(1000, 1200)
CI_KILLS = 5


@pytest.mark.parametrize("seed", CI_SEEDS)
def test_every_acknowledged_record_survives_the_death_of_any_part(seed: int, tmp_path: Path) -> None:
    run_round(seed, tmp_path / "round", CI_KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_two_hundred_rounds(seed: int, tmp_path: Path) -> None:
    run_round(seed, tmp_path / "round")

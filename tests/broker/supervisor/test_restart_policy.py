"""When a dead process is started again, row by row of the table."""
from __future__ import annotations

import pytest

from broker.supervisor.events import DeathCause, Role
from broker.supervisor.restart_policy import POLICIES, Exhausted, RestartAfter, counts, decide_restart

NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("role", "counted_deaths", "verdict"),
    [
        (Role.STORAGE, 0, RestartAfter(0)),
        (Role.STORAGE, 1, RestartAfter(0)),
        (Role.STORAGE, 4, RestartAfter(0)),
        (Role.STORAGE, 5, Exhausted.DIRECTORY_OFFLINE),
        (Role.FRONT_END, 0, RestartAfter(0)),
        (Role.FRONT_END, 1, RestartAfter(0)),
        (Role.FRONT_END, 2, RestartAfter(200)),
        (Role.FRONT_END, 3, RestartAfter(1000)),
        (Role.FRONT_END, 4, RestartAfter(3000)),
        (Role.FRONT_END, 5, Exhausted.STOP_NODE),
        (Role.CONTROLLER, 1, RestartAfter(0)),
        (Role.CONTROLLER, 4, RestartAfter(3000)),
        (Role.CONTROLLER, 5, Exhausted.STOP_NODE),
        (Role.HELPER, 1, Exhausted.NOTHING),
    ],
)
def test_verdict_after_recent_deaths(role: Role, counted_deaths: int, verdict: object) -> None:
    deaths_ms = [NOW_MS - 10 * n for n in range(counted_deaths)]
    assert decide_restart(role, DeathCause.FAULT, deaths_ms, NOW_MS) == verdict


def test_deaths_outside_the_window_are_forgotten() -> None:
    window_ms = POLICIES[Role.STORAGE].window_ms
    old = [NOW_MS - window_ms] * 10
    assert decide_restart(Role.STORAGE, DeathCause.FAULT, old, NOW_MS) == RestartAfter(0)


@pytest.mark.parametrize("cause", list(DeathCause))
def test_only_what_comes_from_outside_is_not_held_against_the_process(cause: DeathCause) -> None:
    assert counts(cause) is (cause not in (DeathCause.KILLED_FROM_OUTSIDE, DeathCause.NOT_FORKED))


@pytest.mark.parametrize("role", [Role.STORAGE, Role.FRONT_END, Role.CONTROLLER])
def test_a_refused_fork_is_tried_again_every_second_for_ever(role: Role) -> None:
    assert decide_restart(role, DeathCause.NOT_FORKED, [NOW_MS] * 4, NOW_MS) == RestartAfter(1000)

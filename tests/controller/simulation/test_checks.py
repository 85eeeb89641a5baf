"""Each check, on small histories that keep and that break its rule."""
from __future__ import annotations

from tests.controller.simulation import checks
from tests.controller.simulation.history import (
    DELETED,
    EXPIRED,
    Acted,
    Committed,
    ControllerGone,
    Elected,
    Fact,
    FitnessChanged,
    LeaderLost,
    Mended,
    Noted,
)

FIRST, SECOND = 101, 102


def act(time: float, epoch: int, elected_epoch: int, *, expired: bool = False, until: float = 100.0) -> Acted:
    return Acted(time, 1, epoch, elected_epoch, expired, until, "write of /a")


def test_write_of_the_last_elected_is_fine_and_of_an_earlier_one_is_not() -> None:
    fine = Committed(2.0, 1, FIRST, FIRST, ("/a",))
    late = Committed(4.0, 1, FIRST, SECOND, ("/a",))
    assert len(list(checks.writes_are_fenced([Elected(1.0, 1, FIRST, 1), fine]))) == 0
    assert len(list(checks.writes_are_fenced([Elected(3.0, 2, SECOND, 2), late]))) == 1


def test_act_after_the_end_of_the_lease_is_found() -> None:
    assert list(checks.acts_within_the_lease([act(1.0, 1, 1, until=1.0)])) == []
    assert len(list(checks.acts_within_the_lease([act(1.1, 1, 1, until=1.0)]))) == 1
    assert len(list(checks.acts_within_the_lease([act(1.0, 1, 1, expired=True)]))) == 1


def test_act_after_anothers_election_is_found_unless_somebody_deposed_the_leader() -> None:
    facts: list[Fact] = [Elected(1.0, 1, FIRST, 1), ControllerGone(2.0, EXPIRED), Elected(2.1, 2, SECOND, 2)]
    assert len(list(checks.acts_within_the_lease([*facts, act(2.2, 1, 2)]))) == 1
    facts[1] = ControllerGone(2.0, DELETED)
    assert list(checks.acts_within_the_lease([*facts, act(2.2, 1, 2)])) == []


def test_epochs_are_counted_one_by_one() -> None:
    first = Elected(1.0, 1, FIRST, 1)
    assert list(checks.epochs_grow([first, Elected(2.0, 2, SECOND, 2)])) == []
    assert len(list(checks.epochs_grow([first, Elected(2.0, 2, SECOND, 1)]))) == 1
    assert len(list(checks.epochs_grow([first, Elected(2.0, 2, SECOND, 3)]))) == 1


def vacancy(taken_at: float, *, fit_from: float = 0.0, unfit_at: float = 50.0) -> list[Fact]:
    facts: list[Fact] = [FitnessChanged(fit_from, 2, True), ControllerGone(5.0, EXPIRED),
                         Elected(taken_at, 2, SECOND, 2), FitnessChanged(unfit_at, 2, False), Noted(60.0, "end")]
    return sorted(facts, key=lambda fact: fact.time)


def test_vacancy_beside_a_fit_node_lasts_a_second_at_most() -> None:
    assert list(checks.vacancies_are_short(vacancy(5.9))) == []
    assert len(list(checks.vacancies_are_short(vacancy(6.1)))) == 1


def test_vacancy_without_a_fit_node_may_last() -> None:
    assert list(checks.vacancies_are_short(vacancy(6.1, fit_from=4.5))) == []
    assert list(checks.vacancies_are_short(vacancy(6.1, unfit_at=5.5))) == []


def test_vacancy_that_never_ends_is_found() -> None:
    assert len(list(checks.vacancies_are_short([
        FitnessChanged(0.0, 2, True), ControllerGone(5.0, EXPIRED), Noted(60.0, "end")]))) == 1


def test_lost_leader_is_replaced_a_second_after_its_session_at_most() -> None:
    lost: list[Fact] = [FitnessChanged(0.0, 2, True), LeaderLost(5.0, 1, 8.0, "stop")]
    assert list(checks.lost_leaders_are_replaced([*lost, Elected(8.9, 2, SECOND, 2), Noted(60.0, "end")])) == []
    late: list[Fact] = [*lost, Elected(9.1, 2, SECOND, 2), Noted(60.0, "end")]
    assert len(list(checks.lost_leaders_are_replaced(late))) == 1
    back: list[Fact] = [*lost, FitnessChanged(6.0, 1, True), *late[2:]]
    assert list(checks.lost_leaders_are_replaced(back)) == []
    mended: list[Fact] = [*lost, Mended(6.0, 1), *late[2:]]
    assert list(checks.lost_leaders_are_replaced(mended)) == []

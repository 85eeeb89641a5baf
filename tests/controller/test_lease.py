"""The lease: every pair of state and event, and the local deadline."""
from __future__ import annotations

import itertools

import pytest

from controller.lease import (
    TRANSITIONS,
    IllegalLeaseEventError,
    Lease,
    LeaseAction,
    LeaseEvent,
    LeaseState,
    local_deadline_ns,
)

MS = 1_000_000
PAIRS = list(itertools.product(LeaseState, LeaseEvent))


def in_state(state: LeaseState) -> Lease:
    lease = Lease(1000)
    lease.state = state
    return lease


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair in TRANSITIONS])
def test_legal_event_moves_as_the_table_says(state: LeaseState, event: LeaseEvent) -> None:
    lease = in_state(state)
    after, actions = TRANSITIONS[state, event]
    assert lease.handle(event) == actions
    assert lease.state is after


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in TRANSITIONS])
def test_illegal_event_raises_and_changes_nothing(state: LeaseState, event: LeaseEvent) -> None:
    lease = in_state(state)
    with pytest.raises(IllegalLeaseEventError):
        lease.handle(event)
    assert lease.state is state


@pytest.mark.parametrize("state", [LeaseState.LEADING, LeaseState.SUSPENDED])
def test_whoever_stops_leading_gives_up(state: LeaseState) -> None:
    for (before, _), (after, actions) in TRANSITIONS.items():
        if before is state and after not in (LeaseState.LEADING, LeaseState.SUSPENDED):
            assert LeaseAction.GIVE_UP in actions


def test_office_is_taken_by_winning_and_taken_up_again_only_where_the_node_is_still_ours() -> None:
    assert [pair for pair, (_, actions) in TRANSITIONS.items() if LeaseAction.TAKE_OFFICE in actions] == [
        (LeaseState.STANDING, LeaseEvent.WON), (LeaseState.SUSPENDED, LeaseEvent.NODE_OURS)]


def test_connection_that_is_back_gives_nothing_back_by_itself() -> None:
    for (_, event), (after, actions) in TRANSITIONS.items():
        if event is LeaseEvent.CONNECTION_BACK:
            assert after is not LeaseState.LEADING
            assert actions == (LeaseAction.LOOK,)


def test_every_interruption_of_a_holder_is_followed_up_by_looking_or_by_the_session() -> None:
    """What takes the lease away without saying who has it now: somebody must look."""
    for (state, event), (after, actions) in TRANSITIONS.items():
        if event is LeaseEvent.DEADLINE_PASSED:
            assert (after, actions) == (LeaseState.STANDBY, (LeaseAction.GIVE_UP, LeaseAction.LOOK)), state


def test_each_handled_event_is_counted() -> None:
    lease = in_state(LeaseState.LEADING)
    lease.handle(LeaseEvent.CONNECTION_LOST)
    with pytest.raises(IllegalLeaseEventError):
        lease.handle(LeaseEvent.WON)
    assert lease.changes == 1


def test_every_loss_of_the_session_is_survivable_in_every_state() -> None:
    for state in set(LeaseState) - {LeaseState.EXPIRED}:
        assert TRANSITIONS[state, LeaseEvent.SESSION_EXPIRED][0] is LeaseState.EXPIRED


def test_deadline_counts_from_the_sending_and_keeps_a_tenth_back() -> None:
    assert local_deadline_ns(500 * MS, 1000) == 1400 * MS
    assert local_deadline_ns(500 * MS, None) is None


def test_leader_acts_until_its_deadline() -> None:
    lease = in_state(LeaseState.LEADING)
    lease.answered(100 * MS)
    assert lease.may_act(999 * MS)
    assert not lease.may_act(1000 * MS)
    assert lease.has_passed(1000 * MS)


def test_answer_to_an_older_request_does_not_shorten_the_lease() -> None:
    lease = in_state(LeaseState.LEADING)
    lease.answered(500 * MS)
    lease.answered(100 * MS)
    assert lease.may_act(1399 * MS)


@pytest.mark.parametrize("state", set(LeaseState) - {LeaseState.LEADING})
def test_only_a_leader_acts(state: LeaseState) -> None:
    lease = in_state(state)
    lease.answered(0)
    assert not lease.may_act(1)


def test_nothing_is_acted_on_before_anything_was_answered_in_the_session() -> None:
    lease = in_state(LeaseState.LEADING)
    lease.answered(0)
    lease.begin_session(1000)
    assert not lease.may_act(1)
    assert lease.has_passed(1)


def test_store_without_time_out_sets_no_deadline() -> None:
    lease = Lease(None)
    lease.state = LeaseState.LEADING
    lease.answered(0)
    assert lease.may_act(10**18)

"""The state machine is a table."""

from __future__ import annotations

import itertools

import pytest

from broker.coordinators.group.group import Group
from broker.coordinators.group.states import (
    COMMIT_ERRORS,
    DEAD,
    EMPTY,
    HEARTBEAT_ERRORS,
    MAY_FOLLOW,
    GroupState,
    IllegalTransitionError,
)


def in_state(state: GroupState) -> Group:
    group = Group("g", 1)
    group.state = state
    return group


@pytest.mark.parametrize(("state", "following"), list(itertools.product(GroupState, GroupState)))
def test_an_illegal_transition_raises_and_changes_nothing(state: GroupState, following: GroupState) -> None:
    group = in_state(state)
    if following in MAY_FOLLOW[state]:
        group.transition(following, 2)
        assert (group.state, group.state_timestamp_ms) == (following, 2)
    else:
        with pytest.raises(IllegalTransitionError):
            group.transition(following, 2)
        assert (group.state, group.state_timestamp_ms) == (state, 1)


def test_every_state_has_its_answers() -> None:
    assert set(MAY_FOLLOW) == set(HEARTBEAT_ERRORS) == set(COMMIT_ERRORS) == set(GroupState)


def test_the_dead_stay_dead_and_only_the_empty_begin() -> None:
    assert MAY_FOLLOW[DEAD] == {DEAD}
    assert Group("g").state is EMPTY

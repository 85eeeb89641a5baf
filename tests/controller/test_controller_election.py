"""Standing for `/controller`: one wins, lost answers are found out, and KRaft is left alone."""
from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller import znodes
from controller.controller_election import Elected, Holder, give_up_inherited, look, stand
from controller.metadata_store.errors import MultiError, NodeExistsError, RolledBackError, StoreError
from controller.metadata_store.operations import Create, Multi, Outcome, Request
from tests.controller.memory_store import MemoryServer, MemoryStore, run


def test_first_controller_begins_with_epoch_1() -> None:
    server = MemoryServer()
    assert run(stand(server.session(), 1, 5)) == Elected(1, 1)
    node = server.tree.node(znodes.CONTROLLER)
    assert node is not None and node.ephemeral_owner
    assert node.data == b'{"version":2,"brokerid":1,"timestamp":"5","kraftControllerEpoch":-1}'


def test_only_one_wins_and_the_epoch_grows_with_each_holder() -> None:
    server = MemoryServer()
    first, second = server.session(), server.session()
    assert run(stand(first, 1, 0)) == Elected(1, 1)
    assert run(stand(second, 2, 0)) is None
    server.expire(first)
    assert run(stand(second, 2, 0)) == Elected(2, 2)


def test_look_names_the_holder_and_watches() -> None:
    server = MemoryServer()
    first, second = server.session(), server.session()
    assert run(look(second)) is None
    run(stand(first, 1, 0))
    event = second.next_event()
    assert event is not None and event.path == znodes.CONTROLLER
    assert run(look(second)) == Holder(1, first.session.id)
    server.expire(first)
    assert second.next_event() is not None


def test_election_that_was_won_but_not_answered_is_found_out() -> None:
    class LostAnswer(MemoryStore):
        """The multi takes effect, its first answer is lost and the repetition finds the node there."""

        async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
            outcomes = await super().submit(requests)
            if isinstance(requests[0], Multi):
                cause: StoreError = NodeExistsError(znodes.CONTROLLER)
                return [MultiError((cause, RolledBackError("")), 0)]
            return outcomes

    server = MemoryServer()
    store = server.session()
    store.__class__ = LostAnswer
    assert run(stand(store, 1, 0)) == Elected(1, 1)


def test_our_id_under_another_epoch_is_no_victory() -> None:
    server = MemoryServer()
    rival, ours = server.session(), server.session()
    run(stand(rival, 1, 0))
    assert run(stand(ours, 1, 0)) is None


def test_node_inherited_with_the_session_is_given_up_and_won_anew() -> None:
    server = MemoryServer()
    store = server.session()
    run(stand(store, 1, 0))
    run(give_up_inherited(store))
    assert server.tree.node(znodes.CONTROLLER) is None
    assert run(stand(store, 1, 0)) == Elected(2, 2)


def test_node_of_another_session_is_not_given_up() -> None:
    server = MemoryServer()
    run(stand(server.session(), 1, 0))
    run(give_up_inherited(server.session()))
    assert server.tree.node(znodes.CONTROLLER) is not None


def test_kraft_controller_of_a_migration_stays() -> None:
    server = MemoryServer()
    store = server.session()
    run(store.submit([
        Create(znodes.CONTROLLER_EPOCH, b"7"),
        Create(znodes.CONTROLLER, b'{"version":2,"brokerid":3000,"timestamp":"1","kraftControllerEpoch":9}')]))
    run(give_up_inherited(store))
    assert run(look(store)) == Holder(3000, 0)
    assert run(stand(store, 1, 0)) is None


def test_unreadable_epoch_is_refused() -> None:
    server = MemoryServer()
    store = server.session()
    run(store.create(znodes.CONTROLLER_EPOCH, b"many"))
    with pytest.raises(znodes.ZnodeFormatError, match="/controller_epoch"):
        run(stand(store, 1, 0))

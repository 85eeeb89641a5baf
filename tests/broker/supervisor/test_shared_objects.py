"""Links and streams as the supervisor keeps them between incarnations."""
from __future__ import annotations

import pytest

from broker.supervisor.shared_objects import SharedObjects, arena_budget_bytes
from storage.ipc.contexts import Doorbells
from storage.ipc.ring import RingError, open_front_end_rings

REQUEST_SIZE_BYTES_MAX = 100 * 1024 * 1024


@pytest.fixture
def shared() -> SharedObjects:
    return SharedObjects(2, REQUEST_SIZE_BYTES_MAX)


def test_a_reset_begins_a_generation_with_empty_rings_and_fresh_doorbells(shared: SharedObjects) -> None:
    link = shared.links[1]
    old = link.doorbells
    producer, _ = open_front_end_rings(link.ring, old.submissions, old.completions, 1)
    producer.put(1, 0, 0, 5, 1, 0, 1, 0, 0)
    producer.flush()
    link.ring.publish_working_slot(5, 1)
    link.reset(2)
    assert link.doorbells.submissions.take() == 0
    assert link.ring.submission_tail.load() == 0
    assert link.ring.working_slot() is None
    with pytest.raises(RingError, match="generation 2, not 1"):
        open_front_end_rings(link.ring, link.doorbells.submissions, link.doorbells.completions, 1)


def test_a_reset_forgets_the_datagrams_of_the_dead(shared: SharedObjects) -> None:
    link = shared.links[0]
    bells = Doorbells.create()
    link.front_end_end.send({"kind": "list"})
    link.storage_end.send({"kind": "partitions"}, bells.fds())
    link.reset(2)
    assert link.front_end_end.receive_nowait() is None
    assert link.storage_end.receive_nowait() is None


def test_streams_join_requests_to_answers(shared: SharedObjects) -> None:
    shared.renew_streams()
    controller, front_end = shared.take_controller_ends(), shared.take_front_end_ends()
    controller.requests.send(b"LeaderAndIsr")
    assert front_end.answers.recv(100) == b"LeaderAndIsr"
    front_end.requests.send(b"CreateTopics")
    assert controller.answers.recv(100) == b"CreateTopics"
    controller.close()
    assert front_end.answers.recv(100) == b""


def test_renewed_streams_close_the_ends_that_nobody_took(shared: SharedObjects) -> None:
    shared.renew_streams()
    front_end = shared.take_front_end_ends()
    shared.renew_streams()
    assert front_end.answers.recv(100) == b""


@pytest.mark.parametrize(
    ("arena_max", "budget"),
    [(256 << 20, 256 << 20), (1 << 30, 1 << 30), (1, 128 << 20)],
)
def test_the_budget_follows_the_operator_but_always_holds_one_request(arena_max: int, budget: int) -> None:
    assert arena_budget_bytes(arena_max, REQUEST_SIZE_BYTES_MAX) == budget

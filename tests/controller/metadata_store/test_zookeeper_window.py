"""Batches in a window of outstanding requests, without a network."""
from __future__ import annotations

from controller.metadata_store.errors import BadArgumentsError, ConnectionLossError
from controller.metadata_store.operations import DeleteResult, Exists
from controller.metadata_store.zookeeper_window import Batch, RequestWindow, Ticket

DONE = DeleteResult()
LOST = ConnectionLossError(reason="lost")


class World:
    """A window of two, and what it sends; batches are written as texts, one letter per request."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Ticket]] = []
        self.finished: list[str] = []
        self.window = RequestWindow(2, lambda prepared, ticket: self.sent.append((prepared, ticket)))

    def add(self, letters: str) -> Batch:
        """A question mark stands for a request that is refused before it goes on the wire."""
        prepared = [BadArgumentsError(each) if each == "?" else each for each in letters]
        batch = Batch([Exists("/")] * len(letters), prepared, lambda: self.finished.append(letters))
        self.window.add(batch)
        return batch

    def answer(self) -> None:
        """The oldest outstanding request."""
        _, ticket = self.sent.pop(0)
        self.window.answered(ticket, DONE)

    @property
    def outstanding(self) -> str:
        return "".join(prepared for prepared, _ in self.sent)


def test_no_more_than_the_limit_is_outstanding_and_the_order_is_kept() -> None:
    world = World()
    batch = world.add("abcd")
    seen = []
    while world.sent:
        seen.append(world.outstanding)
        world.answer()
    assert seen == ["ab", "bc", "cd", "d"]
    assert world.finished == ["abcd"]
    assert batch.outcomes == [DONE] * 4


def test_batches_take_turns() -> None:
    """A read does not wait behind a long batch that was there first."""
    world = World()
    world.add("abcdefgh")
    world.add("X")
    world.answer()
    world.answer()
    assert "X" in world.outstanding


def test_refused_requests_take_no_place_and_hold_nobody_up() -> None:
    world = World()
    batch = world.add("?a??b?")
    assert world.outstanding == "ab"
    world.answer()
    world.answer()
    assert batch.outcomes[1] == batch.outcomes[4] == DONE
    assert [type(batch.outcomes[place]) for place in (0, 2, 3, 5)] == [BadArgumentsError] * 4
    assert world.add("??").is_finished
    assert world.add("").is_finished
    assert world.finished == ["?a??b?", "??", ""]


def test_a_lost_connection_fails_every_batch_sent_or_not() -> None:
    world = World()
    batches = [world.add("ab"), world.add("c"), world.add("d")]
    world.window.reset(LOST)
    assert [batch.failure for batch in batches] == [LOST] * 3
    assert world.window.in_flight == 0


def test_an_answer_that_comes_after_the_loss_is_not_counted() -> None:
    world = World()
    world.add("ab")
    world.window.reset(LOST)
    batch = world.add("cd")
    world.answer()
    world.answer()
    assert (world.outstanding, world.window.in_flight, batch.is_finished) == ("cd", 2, False)


def test_nothing_more_of_a_removed_batch_is_sent_but_its_places_come_back() -> None:
    world = World()
    batch = world.add("abcd")
    world.window.remove(batch)
    world.add("X")
    assert world.outstanding == "ab"
    world.answer()
    assert world.outstanding == "bX"
    assert world.finished == []


def test_a_batch_that_failed_alone_sends_no_more() -> None:
    world = World()
    batch = world.add("abcd")
    batch.fail(LOST)
    world.answer()
    assert world.outstanding == "b"
    assert batch.failure is LOST

"""The memory that connections receive into, and who is told when there is room again."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio

from broker.network.receive import CHUNK_BYTES, SMALL_READ_BYTES, ReceiveBuffers
from storage.ipc.arena import Arena, Slab
from storage.ipc.region import Region
from tests.broker.network.harness import ARENA_BYTES, MIB, settle

BUDGET_BYTES = 8 * MIB


@pytest.fixture
def arena() -> Arena:
    return Arena(Region.create("arena", ARENA_BYTES), 1, BUDGET_BYTES, reserve_bytes=MIB)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


class Waiting:
    """A connection that was refused."""

    def __init__(self, name: str, woken: list[str]) -> None:
        self.name = name
        self._woken = woken

    def wake(self) -> None:
        self._woken.append(self.name)


def fill(arena: Arena, size_bytes: int) -> Slab:
    slab = arena.allocate(size_bytes)
    assert slab is not None
    slab.note_touched(size_bytes)
    return slab


def test_reads_lie_one_behind_the_other(arena: Arena, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    buffers = ReceiveBuffers(arena)
    found = []
    for data in (b"first", b"second"):
        theirs.send(data)
        assert buffers.has_shared_room(SMALL_READ_BYTES)
        slab, start, end = buffers.receive_shared(ours, SMALL_READ_BYTES)
        slab.retain()
        found.append((start, end, bytes(slab.view[start:end])))
    assert found == [(0, 5, b"first"), (5, 11, b"second")]
    assert arena.used_bytes == 11


def test_a_chunk_without_users_is_filled_again_from_its_start(
    arena: Arena, pair: tuple[socket.socket, socket.socket]
) -> None:
    """So that single requests touch one page again and again, not all of a chunk in turn."""
    ours, theirs = pair
    buffers = ReceiveBuffers(arena)
    for _ in range(3):
        theirs.send(b"request")
        assert buffers.has_shared_room(SMALL_READ_BYTES)
        slab, start, end = buffers.receive_shared(ours, SMALL_READ_BYTES)
        assert (start, end) == (0, 7)
        slab.retain()
        slab.release()
    assert arena.used_bytes == 7


def test_a_chunk_that_fills_the_arena_is_given_up(
    arena: Arena, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Else all would wait for room that only the chunk itself could give."""
    ours, theirs = pair
    small = Arena(Region.create("arena", ARENA_BYTES), 1, SMALL_READ_BYTES + 10)
    buffers = ReceiveBuffers(small)
    told: list[bool] = []
    small.room_callback = lambda: told.append(True)
    theirs.send(b"x" * 11)
    assert buffers.has_shared_room(SMALL_READ_BYTES)
    slab, _, _ = buffers.receive_shared(ours, SMALL_READ_BYTES)
    slab.retain()
    assert not buffers.has_shared_room(SMALL_READ_BYTES)
    slab.release()
    assert told == [True]
    assert buffers.has_shared_room(SMALL_READ_BYTES)


def test_a_closed_peer_is_an_empty_read_and_no_data_is_an_error(
    arena: Arena, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    buffers = ReceiveBuffers(arena)
    assert buffers.has_shared_room(100)
    with pytest.raises(BlockingIOError):
        buffers.receive_shared(ours, 100)
    theirs.close()
    _, start, end = buffers.receive_shared(ours, 100)
    assert start == end == 0


def test_a_chunk_without_room_for_a_read_is_given_up(
    arena: Arena, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    buffers = ReceiveBuffers(arena)
    chunks: list[Slab] = []
    for _ in range(CHUNK_BYTES // SMALL_READ_BYTES + 1):
        theirs.send(b"x" * 10)
        assert buffers.has_shared_room(SMALL_READ_BYTES)
        slab, _, _ = buffers.receive_shared(ours, SMALL_READ_BYTES)
        slab.retain()
        buffers._chunk_end = -(-buffers._chunk_end // SMALL_READ_BYTES) * SMALL_READ_BYTES
        chunks.append(slab)
    *first, second = chunks
    assert set(first) == {first[0]}
    assert (first[0].reference_count, second.reference_count) == (len(first), 2)
    for slab in chunks:
        slab.release()
    buffers.close()
    assert arena.used_bytes == 0


def test_a_full_arena_has_no_room_for_new_reads_but_for_what_has_begun(arena: Arena) -> None:
    used = fill(arena, 7 * MIB)
    buffers = ReceiveBuffers(arena)
    assert not buffers.has_shared_room(1)
    assert arena.under_pressure
    for reserve in (False, True):
        slab = buffers.private_slab(100, reserve)
        assert slab is not None
        slab.release()
    used.release()
    assert buffers.has_shared_room(SMALL_READ_BYTES)


def test_without_address_space_even_what_has_begun_waits() -> None:
    arena = Arena(Region.create("arena", 128 * MIB), 1, BUDGET_BYTES)
    buffers = ReceiveBuffers(arena)
    all_of_it = buffers.private_slab(128 * MIB, False)
    assert all_of_it is not None
    assert buffers.private_slab(1, False) is None
    all_of_it.release()
    assert buffers.private_slab(1, False) is not None


def test_all_who_were_refused_are_woken_in_their_order_and_once(arena: Arena) -> None:
    woken: list[str] = []
    one, two, three = (Waiting(name, woken) for name in ("one", "two", "three"))
    buffers = ReceiveBuffers(arena)
    arena.room_callback = buffers.room_freed
    used = fill(arena, 7 * MIB)
    for waiting in (two, one, three):
        assert not buffers.has_shared_room(1)
        buffers.refused(waiting)
    buffers.withdraw(one)
    used.release()
    assert woken == ["two", "three"]
    fill(arena, MIB).release()
    assert woken == ["two", "three"]


def test_the_next_is_woken_when_the_one_over_budget_has_gone(arena: Arena) -> None:
    """Although there is no room within the budget: one at a time may exceed it."""
    woken: list[str] = []
    buffers = ReceiveBuffers(arena)
    arena.room_callback = buffers.room_freed
    slabs = [arena.allocate(4 * MIB) for _ in range(4)]
    for slab in slabs:
        assert slab is not None
        slab.note_touched(4 * MIB)
    waiting, over, other, _ = [slab for slab in slabs if slab is not None]
    assert over.may_grow()
    assert not waiting.may_grow()
    buffers.refused(Waiting("waiting", woken))
    other.release()
    assert woken == []
    over.release()
    assert woken == ["waiting"]
    assert arena.used_bytes == BUDGET_BYTES
    assert waiting.may_grow()


@pytest.mark.trio
async def test_pressure_begins_with_the_first_who_is_refused(arena: Arena, nursery: trio.Nursery) -> None:
    buffers = ReceiveBuffers(arena)
    told: list[int] = []

    async def watch() -> None:
        for number in range(2):
            await buffers.wait_for_pressure()
            told.append(number)

    nursery.start_soon(watch)
    await settle()
    assert told == []
    buffers.refused(Waiting("one", []))
    await settle()
    assert told == [0, 1], "as long as somebody waits there is no waiting"
    buffers.room_freed()
    nursery.start_soon(watch)
    await settle()
    assert told == [0, 1]

"""Appending to a coordinator's partition: through the ring, from the reserve, done when replicated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from broker.coordinators.log_writer import LogWriter
from broker.protocol.errors import ErrorCode
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition
from storage import errors
from storage.ipc.arena import Slab
from tests.broker.replica.fake_storage import Directories

pytestmark = pytest.mark.trio

TOPIC = "__consumer_offsets"
NOBODY_ELSE, WITH_A_FOLLOWER = (1,), (1, 2)
TIMEOUT_MS = 1000
BATCH = b"batch" * 100


class Storage:
    """A link that keeps what is submitted until it is told to answer."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Any, int, int]] = []

    def submit(self, waiter: Any, index: int, kind: int, slot: int, generation: int, epoch: int,
               offset: int, size: int) -> None:  # fmt: skip
        self.submitted.append((waiter, offset, size))

    def flush_if_idle(self) -> None:
        return None

    def answer(self, base_offset: int, error: int = 0) -> None:
        waiter, _, _ = self.submitted.pop(0)
        completion = (0, 0, error, 1, 1, 0, 0, base_offset, base_offset, base_offset + 1, 0, -1, -1, 0, 10, 2)
        waiter.storage_completed(0, error, completion)

    def die(self) -> None:
        for waiter, _, _ in self.submitted:
            waiter.storage_completed(0, errors.KAFKA_STORAGE_ERROR, None)


class World:
    """One led partition; `outcomes` are those of the appends, in their order."""

    def __init__(self, nursery: trio.Nursery, isr: tuple[int, ...] = NOBODY_ELSE, acks: int = -1) -> None:
        directories = Directories(1)
        self.log_dirs = directories.log_dirs
        self.storage = Storage()
        self.log_dirs.links = [self.storage]  # type: ignore[list-item]
        self.partition = Partition(TOPIC, 0, bytes(16), 0, "/nowhere", 1, 1)
        self.partition.replicas = self.partition.isr = isr
        self.partition.lead(1, 5, [])
        directories.registry.add(self.partition)
        self.writer = LogWriter(
            TOPIC, directories.registry, self.log_dirs, nursery.start_soon, acks, TIMEOUT_MS
        )
        self.outcomes: list[tuple[ErrorCode, int]] = []

    def append(self, batch: bytes = BATCH, number: int = 0) -> None:
        self.writer.append(number, batch, lambda error, offset: self.outcomes.append((error, offset)))

    def stored(self, offset: int) -> None:
        """As the pump does it: ends and watermark first."""
        self.partition.log_advanced(LogPosition(offset + 1, 0, 10), 0, -1, 2)
        self.storage.answer(offset)


Make = Callable[..., World]


@pytest.fixture
async def make(nursery: trio.Nursery) -> Make:
    return lambda **options: World(nursery, **options)


async def test_the_batch_goes_onto_the_ring_as_it_is(make: Make) -> None:
    world = make()
    world.append()
    ((_, offset, size),) = world.storage.submitted
    assert bytes(world.log_dirs.arena.memory[offset : offset + size]) == BATCH
    assert world.outcomes == []
    world.stored(7)
    assert world.outcomes == [(ErrorCode.NONE, 7)]


async def test_slabs_come_back(make: Make) -> None:
    world = make()
    for offset in range(3):
        world.append()
        world.stored(offset)
    assert world.log_dirs.arena.used_bytes == 0


async def test_who_does_not_lead_is_refused_at_once(make: Make) -> None:
    world = make()
    world.append(number=3)
    world.partition.follow(2, 6)
    world.append()
    assert world.outcomes == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)] * 2


async def test_what_storage_refuses_is_told(make: Make) -> None:
    world = make()
    world.append()
    world.storage.answer(-1, errors.MESSAGE_TOO_LARGE)
    assert world.outcomes == [(ErrorCode.MESSAGE_TOO_LARGE, -1)]


async def test_a_storage_process_that_dies_leaves_the_outcome_open(make: Make) -> None:
    world = make()
    world.append()
    world.storage.die()
    assert world.outcomes == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]


async def test_with_followers_it_waits_for_the_watermark(make: Make) -> None:
    world = make(isr=WITH_A_FOLLOWER)
    world.append()
    world.stored(0)
    assert world.outcomes == []
    world.partition.follower_ends[2] = 1
    world.partition.log_advanced(LogPosition(1, 0, 10), 0, -1, 2)
    assert world.outcomes == [(ErrorCode.NONE, 0)]
    assert not world.partition.watchers


async def test_acks_of_one_do_not_wait(make: Make) -> None:
    world = make(isr=WITH_A_FOLLOWER, acks=1)
    world.append()
    world.stored(0)
    assert world.outcomes == [(ErrorCode.NONE, 0)]


async def test_a_leadership_that_is_lost_ends_the_wait(make: Make) -> None:
    world = make(isr=WITH_A_FOLLOWER)
    world.append()
    world.stored(0)
    world.partition.follow(2, 6)
    assert world.outcomes == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, 0)]


async def test_the_wait_has_an_end(make: Make, autojump_clock: trio.testing.MockClock) -> None:
    world = make(isr=WITH_A_FOLLOWER)
    world.append()
    world.stored(0)
    await trio.sleep(1.1)
    assert world.outcomes == [(ErrorCode.REQUEST_TIMED_OUT, 0)]
    assert not world.partition.watchers


async def test_without_room_batches_wait_in_their_order(
    make: Make, autojump_clock: trio.testing.MockClock
) -> None:
    world = make()
    arena = world.log_dirs.arena
    taken: list[Slab] = []
    while (slab := arena.allocate(1 << 20, reserve=True)) is not None:
        slab.note_touched(1 << 20)
        taken.append(slab)
    world.append(b"first")
    world.append(b"second")
    assert not world.storage.submitted
    for slab in taken:
        slab.release()
    await trio.sleep(0.1)
    sizes = [size for _, _, size in world.storage.submitted]
    assert sizes == [len(b"first"), len(b"second")]

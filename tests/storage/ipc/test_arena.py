"""The arena: classes, budget, reserve, warm pages, pages given back, address space used again."""
from __future__ import annotations

import random

import pytest

from storage.ipc.arena import (
    IDLE_KEPT_BYTES_DEFAULT,
    SLAB_SIZE_BYTES_MIN,
    TRIM_STEP_BYTES,
    Arena,
    ArenaView,
    Slab,
    SlabError,
    arena_size_bytes,
    create_arena_region,
    largest_slab_size_bytes,
)
from storage.ipc.region import Region
from tests.storage.ipc.processes import Forked

MIB = 1024 * 1024
REQUEST_SIZE_BYTES_MAX = 100 * MIB


def make(budget_bytes: int = 512 * MIB, reserve_bytes: int = 0, idle_kept_bytes: int = IDLE_KEPT_BYTES_DEFAULT,
         region: Region | None = None) -> Arena:
    return Arena(region or create_arena_region(REQUEST_SIZE_BYTES_MAX), REQUEST_SIZE_BYTES_MAX, budget_bytes,
                 reserve_bytes, idle_kept_bytes)


def take(arena: Arena, size_bytes: int, reserve: bool = False) -> Slab:
    slab = arena.allocate(size_bytes, reserve)
    assert slab is not None
    return slab


# Sizes


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(1, 64), (65536, 64), (65537, 128), (MIB, 1024), (MIB + 1, 2048), (REQUEST_SIZE_BYTES_MAX, 128 * 1024)],
)
def test_a_slab_is_the_next_power_of_two(wanted: int, given: int) -> None:
    slab = take(make(), wanted)
    assert (slab.size_bytes, len(slab.view), slab.offset % slab.size_bytes) == (given * 1024, given * 1024, 0)


def test_more_than_a_request_may_have_is_our_bug() -> None:
    with pytest.raises(ValueError, match="no slab holds"):
        make().allocate(128 * MIB + 1)


@pytest.mark.parametrize(
    ("request_max", "largest"),
    [(1, 128), (100 * MIB, 128), (128 * MIB - 4096, 128), (128 * MIB, 256), (2**31 - 1, 4096)],
)
def test_the_largest_class_holds_the_largest_request(request_max: int, largest: int) -> None:
    assert largest_slab_size_bytes(request_max) == largest * MIB
    assert arena_size_bytes(request_max) >= 64 * largest * MIB


def test_an_arena_too_small_for_its_largest_slab_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold a slab"):
        Arena(Region.create("test", MIB), REQUEST_SIZE_BYTES_MAX, MIB)


@pytest.mark.parametrize("reserve_bytes", [-1, 512 * MIB])
def test_a_reserve_must_leave_something(reserve_bytes: int) -> None:
    with pytest.raises(ValueError, match="reserve of"):
        make(reserve_bytes=reserve_bytes)


# Life of a slab


def test_warm_pages_are_used_again_last_in_first_out() -> None:
    arena = make()
    first, second = take(arena, MIB), take(arena, MIB)
    offsets = first.offset, second.offset
    first.release()
    second.release()
    assert take(arena, MIB).offset == offsets[1]
    assert take(arena, MIB).offset == offsets[0]


def test_a_slab_is_free_only_when_its_last_user_lets_go() -> None:
    arena = make()
    slab = take(arena, MIB)
    slab.retain()
    slab.retain()
    slab.release()
    slab.release()
    assert take(arena, MIB).offset != slab.offset
    slab.release()
    assert take(arena, MIB).offset == slab.offset


def test_a_release_too_many_is_our_bug() -> None:
    slab = take(make(), MIB)
    slab.release()
    with pytest.raises(SlabError, match="released while free"):
        slab.release()
    with pytest.raises(SlabError, match="retained while free"):
        slab.retain()


def test_touching_a_free_slab_or_beyond_its_end_is_our_bug() -> None:
    arena = make()
    slab = take(arena, SLAB_SIZE_BYTES_MIN)
    with pytest.raises(SlabError, match="bytes touched"):
        slab.note_touched(SLAB_SIZE_BYTES_MIN + 1)
    slab.release()
    with pytest.raises(SlabError, match="bytes touched"):
        slab.note_touched(1)


def test_storage_sees_what_the_front_end_wrote_and_back() -> None:
    region = create_arena_region(REQUEST_SIZE_BYTES_MAX)
    slab = take(make(region=region), MIB)
    slab.view[10:15] = b"batch"

    def patch() -> None:
        view = ArenaView(region).view(slab.offset + 10, 5)
        assert bytes(view) == b"batch"
        view[:] = b"BATCH"

    assert Forked(patch).wait() == 0
    assert bytes(slab.view[10:15]) == b"BATCH"


@pytest.mark.parametrize(("offset", "size_bytes"), [(-1, 1), (0, -1), (2**60, 1), (32 * 1024 * MIB - 1, 2)])
def test_a_view_outside_the_arena_is_refused(offset: int, size_bytes: int) -> None:
    region = create_arena_region(REQUEST_SIZE_BYTES_MAX)
    with pytest.raises(IndexError):
        ArenaView(region).view(offset, size_bytes)


# Budget


def test_only_touched_bytes_count() -> None:
    arena = make(budget_bytes=200 * MIB)
    slabs = [take(arena, REQUEST_SIZE_BYTES_MAX) for _ in range(50)]
    for slab in slabs:
        slab.note_touched(MIB)
    assert arena.used_bytes == 50 * MIB


def test_beyond_the_budget_nothing_is_handed_out_until_something_is_released() -> None:
    arena = make(budget_bytes=4 * MIB)
    rooms: list[int] = []
    arena.room_callback = lambda: rooms.append(arena.used_bytes)
    slabs = [take(arena, MIB) for _ in range(4)]
    for slab in slabs:
        assert slab.note_touched(MIB)
    assert arena.allocate(1) is None
    assert arena.under_pressure
    slabs[0].release()
    assert rooms == [3 * MIB]
    assert not arena.under_pressure
    assert arena.allocate(1) is not None


def test_the_reserve_is_for_those_who_ask_for_it() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=2 * MIB)
    ordinary = take(arena, 2 * MIB)
    ordinary.note_touched(2 * MIB)
    assert arena.allocate(1) is None
    replication = take(arena, 2 * MIB, reserve=True)
    replication.note_touched(2 * MIB)
    assert arena.allocate(1, reserve=True) is None
    assert (arena.used_bytes, arena.reserve_used_bytes) == (4 * MIB, 2 * MIB)
    replication.release()
    assert arena.reserve_used_bytes == 0


def test_an_ordinary_frame_grown_beyond_its_budget_does_not_eat_the_reserve() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=2 * MIB)
    huge = take(arena, 8 * MIB)
    assert huge.note_touched(8 * MIB)
    assert arena.allocate(1) is None
    replication = take(arena, 2 * MIB, reserve=True)
    assert replication.note_touched(2 * MIB)
    assert arena.allocate(1, reserve=True) is None


def test_ordinary_frames_do_not_grow_into_the_reserve() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=2 * MIB)
    one, other = take(arena, 4 * MIB), take(arena, 4 * MIB)
    assert one.note_touched(MIB)
    assert other.note_touched(MIB)
    assert one.note_touched(MIB + 1), "one at a time may go on"
    assert not other.note_touched(MIB + 1)


def test_replication_uses_what_ordinary_frames_leave() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=MIB)
    replication = take(arena, 4 * MIB, reserve=True)
    assert replication.note_touched(4 * MIB)
    assert arena.allocate(1) is None
    assert arena.allocate(1, reserve=True) is None


def test_a_refused_reserve_is_told_of_room_that_only_it_may_use() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=2 * MIB)
    told: list[bool] = []
    arena.room_callback = lambda: told.append(True)
    ordinary, replication = take(arena, 2 * MIB), take(arena, 2 * MIB, reserve=True)
    ordinary.note_touched(2 * MIB)
    replication.note_touched(2 * MIB)
    assert arena.allocate(1, reserve=True) is None
    replication.release()
    assert told == [True]


def test_half_received_frames_do_not_wait_for_each_other_for_ever() -> None:
    arena = make(budget_bytes=6 * MIB)
    slabs = [take(arena, 4 * MIB) for _ in range(3)]
    assert all(slab.note_touched(2 * MIB) for slab in slabs)
    assert slabs[1].note_touched(3 * MIB), "one may go beyond the budget"
    assert not slabs[0].note_touched(3 * MIB)
    assert not slabs[2].note_touched(3 * MIB)
    assert slabs[1].note_touched(4 * MIB), "and it stays that one"
    slabs[1].release()
    assert slabs[0].note_touched(4 * MIB)


def test_a_refused_growth_is_told_when_there_is_room() -> None:
    arena = make(budget_bytes=3 * MIB)
    told: list[bool] = []
    arena.room_callback = lambda: told.append(True)
    slabs = [take(arena, 4 * MIB) for _ in range(2)]
    assert slabs[0].note_touched(4 * MIB)
    assert not slabs[1].note_touched(MIB)
    slabs[0].release()
    assert told == [True]
    assert slabs[1].note_touched(MIB)


def test_touching_less_than_before_changes_nothing() -> None:
    arena = make()
    slab = take(arena, MIB)
    slab.note_touched(MIB)
    slab.note_touched(1)
    assert arena.used_bytes == MIB


# Pages given back


def test_idle_pages_beyond_the_kept_share_go_back_to_the_system() -> None:
    region = create_arena_region(REQUEST_SIZE_BYTES_MAX)
    arena = make(region=region, idle_kept_bytes=4 * MIB)
    slab = take(arena, REQUEST_SIZE_BYTES_MAX)
    slab.view[:20 * MIB] = bytes(20 * MIB)
    slab.note_touched(20 * MIB)
    slab.release()
    assert arena.idle_bytes == 20 * MIB - TRIM_STEP_BYTES, "a bounded piece per call"
    while arena.trim():
        pass
    assert arena.idle_bytes == 4 * MIB
    assert region.resident_bytes() == 4 * MIB


def test_large_slabs_give_first_and_small_ones_stay_warm() -> None:
    arena = make(idle_kept_bytes=2 * MIB)
    small = [take(arena, SLAB_SIZE_BYTES_MIN) for _ in range(16)]
    large = take(arena, 4 * MIB)
    for slab in (*small, large):
        slab.note_touched(slab.size_bytes)
    for slab in (*small, large):
        slab.release()
    assert arena.idle_bytes == 5 * MIB, "a little more than the kept share waits for the next trim"
    assert not arena.trim()
    assert sum(slab.resident_bytes for slab in small) == MIB
    assert large.resident_bytes == MIB


def test_trimming_a_deep_stack_does_not_look_at_cold_slabs_again() -> None:
    arena = make(idle_kept_bytes=0)
    slabs = [take(arena, SLAB_SIZE_BYTES_MIN) for _ in range(300)]
    for slab in slabs:
        slab.note_touched(SLAB_SIZE_BYTES_MIN)
    for slab in slabs:
        slab.release()
    while arena.trim():
        pass
    assert arena.idle_bytes == 0
    warm = [take(arena, SLAB_SIZE_BYTES_MIN) for _ in range(200)]
    for slab in warm:
        slab.note_touched(1)
        slab.release()
        assert not arena.trim()
        assert slab.resident_bytes == 0
    assert arena._cold_counts[0] == 300


def test_an_idle_arena_within_its_share_keeps_everything() -> None:
    arena = make()
    slab = take(arena, 8 * MIB)
    slab.note_touched(8 * MIB)
    slab.release()
    assert not arena.trim()
    assert slab.resident_bytes == 8 * MIB


def test_a_new_front_end_gives_back_what_the_dead_one_touched() -> None:
    region = create_arena_region(REQUEST_SIZE_BYTES_MAX)
    slab = take(make(region=region), MIB)
    slab.view[:] = b"x" * MIB
    assert region.resident_bytes() == MIB
    make(region=region)
    assert region.resident_bytes() == 0


# Address space


def test_alignment_gaps_are_used() -> None:
    arena = make()
    take(arena, SLAB_SIZE_BYTES_MIN)
    take(arena, MIB)
    assert take(arena, SLAB_SIZE_BYTES_MIN).offset == SLAB_SIZE_BYTES_MIN
    assert take(arena, 2 * SLAB_SIZE_BYTES_MIN).offset == 2 * SLAB_SIZE_BYTES_MIN


def small_arena() -> Arena:
    return Arena(Region.create("test", 128 * MIB), 1, 10**12)


def test_when_the_space_ends_free_slabs_are_cut_and_joined() -> None:
    arena = small_arena()
    whole = take(arena, 128 * MIB)
    assert arena.allocate(1) is None
    whole.release()
    quarters = [take(arena, 32 * MIB) for _ in range(4)]
    assert arena.allocate(1) is None
    for slab in quarters:
        slab.release()
    assert take(arena, 128 * MIB).offset == 0


def test_resident_bytes_follow_through_cuts_and_joins() -> None:
    arena = small_arena()
    whole = take(arena, 128 * MIB)
    whole.note_touched(10 * MIB)
    whole.release()
    while arena.trim():
        pass
    lower = take(arena, 8 * MIB)
    assert (lower.resident_bytes, arena.used_bytes, arena.idle_bytes) == (8 * MIB, 8 * MIB, 2 * MIB)
    lower.release()
    joined = take(arena, 128 * MIB)
    assert (joined.resident_bytes, arena.idle_bytes) == (10 * MIB, 0)


@pytest.mark.parametrize("seed", range(5))
def test_slabs_never_overlap_and_the_counts_add_up(seed: int) -> None:
    """Random life in a space so small that cutting and joining happen all the time."""
    rng = random.Random(seed)
    region = Region.create("test", 128 * MIB)
    arena = Arena(region, 1, 100 * MIB, idle_kept_bytes=3 * MIB)
    living: list[Slab] = []
    for _ in range(4000):
        if living and rng.random() < 0.5:
            living.pop(rng.randrange(len(living))).release()
        else:
            slab = arena.allocate(1 << rng.randrange(10, 26))
            if slab is not None:
                slab.note_touched(rng.randrange(1, min(slab.size_bytes, 4 * MIB) + 1))
                living.append(slab)
        assert arena.used_bytes == sum(slab.resident_bytes for slab in living)
    spans = sorted((slab.offset, slab.offset + slab.size_bytes) for slab in living)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    for slab in living:
        slab.release()
    while arena.trim():
        pass
    assert arena.used_bytes == 0
    assert 0 <= arena.idle_bytes <= 3 * MIB
    assert take(arena, 128 * MIB).offset == 0


# What has begun goes on


def test_bytes_that_are_there_count_although_they_are_over_budget() -> None:
    arena = make(budget_bytes=3 * MIB)
    first, second = take(arena, 4 * MIB), take(arena, 4 * MIB)
    assert first.note_touched(4 * MIB), "the one that may"
    assert not second.note_touched(MIB)
    assert arena.used_bytes == 5 * MIB
    assert not second.may_grow()
    second.release()
    assert (arena.used_bytes, arena.idle_bytes) == (4 * MIB, MIB)


def test_the_next_may_exceed_the_budget_when_the_one_before_is_released() -> None:
    arena = make(budget_bytes=3 * MIB)
    told: list[int] = []
    arena.room_callback = lambda: told.append(arena.used_bytes)
    slabs = [take(arena, 4 * MIB) for _ in range(3)]
    for slab in slabs:
        slab.note_touched(3 * MIB + 1)
    assert [slab.may_grow() for slab in slabs] == [True, False, False]
    slabs[0].release()
    assert told == [6 * MIB + 2], "not within the budget, but one at a time beyond it"
    assert arena.under_pressure
    assert [slab.may_grow() for slab in slabs[1:]] == [True, False]


def test_what_continues_in_another_slab_is_not_held_back_by_the_budget() -> None:
    arena = make(budget_bytes=MIB)
    begun = take(arena, MIB)
    begun.note_touched(MIB)
    assert arena.allocate(1) is None
    assert arena.allocate(1, continuing=True) is not None


def test_room_for_something_new_is_room_for_all_of_it() -> None:
    arena = make(budget_bytes=4 * MIB, reserve_bytes=MIB)
    take(arena, 2 * MIB).note_touched(2 * MIB)
    assert arena.has_room(MIB)
    assert not arena.under_pressure
    assert not arena.has_room(MIB + 1)
    assert arena.under_pressure

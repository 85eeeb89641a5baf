"""The arena: slabs for payloads, received from sockets and read by storage without a copy.

Runs in: front end (Arena, the only allocator, reference counts included); storage and helpers read and
patch slabs through ArenaView. A slab is freed by the completion of every entry on it or by the proven
death of its user, never by a timeout or a disconnect.

Address space is plenty and fixed; memory is what counts, and memory is what was touched:
- A slab is a power of two, cut from the frontier of the arena, or from a larger free slab, or made of
  merged neighbours (buddies) when the address space runs out.
- Free slabs of a class are a stack, so that warm pages are used again. Its bottom is the coldest.
- `resident_bytes` of a slab is the most that was touched since its pages were last given back. The
  budget counts it for slabs in use. Idle slabs keep up to `idle_kept_bytes` between them; beyond that
  pages go back by MADV_REMOVE, the largest slabs first, a bounded piece per call (see `trim`).
- A part of the budget is a reserve: ordinary slabs never use it, `allocate(..., reserve=True)` may use both.
- Who begins something new is refused when the budget is used up. What has begun goes on: a byte written
  counts, over budget or not, and `may_grow` then holds its receiver back, except for one ordinary and one
  reserved slab at a time: else frames that are all half received would wait for each other for ever.
"""
from __future__ import annotations

import mmap
from collections.abc import Callable

from storage.ipc.region import Region

SLAB_SIZE_BYTES_MIN = 64 * 1024
"""Smaller frames live in the front end's own pooled buffers."""
LARGEST_SLAB_SIZE_BYTES_MIN = 128 * 1024 * 1024
"""Holds socket.request.max.bytes at its default of 100 MiB."""
ARENA_SIZE_BYTES_MIN = 32 * 1024 * 1024 * 1024
"""Address space only: 256 of the largest slabs; a page of it costs nothing until touched."""
SLABS_OF_LARGEST_CLASS_MIN = 64
IDLE_KEPT_BYTES_DEFAULT = 32 * 1024 * 1024
TRIM_STEP_BYTES = 8 * 1024 * 1024
"""Pages given back per call at most: about a millisecond of the loop. Also the slack that release() leaves
above the kept share before it trims, so that it does so once per step and not once per slab."""
FRAME_SLACK_BYTES = 4096
"""Room for the size prefix and what the receiver keeps beside a frame of the largest size."""
_SHIFT_MIN = SLAB_SIZE_BYTES_MIN.bit_length() - 1


class SlabError(Exception):
    """Our own bug: a slab released twice, or used after its release."""


def largest_slab_size_bytes(request_size_bytes_max: int) -> int:
    """Smallest size class, of at least the usual one, that holds a request of that size."""
    wanted = max(request_size_bytes_max + FRAME_SLACK_BYTES, LARGEST_SLAB_SIZE_BYTES_MIN)
    return 1 << (wanted - 1).bit_length()


def arena_size_bytes(request_size_bytes_max: int) -> int:
    """Address space for an arena whose largest slab holds a request of that size."""
    largest = largest_slab_size_bytes(request_size_bytes_max)
    return max(ARENA_SIZE_BYTES_MIN, SLABS_OF_LARGEST_CLASS_MIN * largest)


def create_arena_region(request_size_bytes_max: int) -> Region:
    """The supervisor's part: the sparse memory itself."""
    return Region.create("arena", arena_size_bytes(request_size_bytes_max))


class Slab:
    """One piece of the arena. `view` is all of its size class, writable.

    Handed out with one reference; `retain()` for each further user, `release()` by each.
    """

    __slots__ = (
        "offset", "size_bytes", "view", "reference_count", "resident_bytes", "reserved", "_arena",
        "_class_index",
    )

    def __init__(self, arena: Arena, offset: int, class_index: int) -> None:
        self.offset = offset
        self.size_bytes = SLAB_SIZE_BYTES_MIN << class_index
        self.view = arena.memory[offset:offset + self.size_bytes]
        self.reference_count = 0
        self.resident_bytes = 0
        self.reserved = False
        self._arena = arena
        self._class_index = class_index

    def retain(self) -> None:
        """One more user."""
        if self.reference_count <= 0:
            raise SlabError(f"slab at {self.offset} retained while free")
        self.reference_count += 1

    def release(self) -> None:
        """One user less; with the last one the slab is free and may be handed out at once."""
        self.reference_count -= 1
        if self.reference_count <= 0:
            self._arena.give_back(self, self._class_index)

    def note_touched(self, byte_count: int) -> bool:
        """The first `byte_count` bytes are, or are about to be, written; they count from now on.

        False: over budget, do not receive more into this slab until `may_grow()`.
        """
        if byte_count <= self.resident_bytes:
            return True
        self._arena.grow(self, byte_count)
        return self._arena.may_grow(self)

    def may_grow(self) -> bool:
        """False: no room for more in this slab now; `Arena.room_callback` tells when to ask again."""
        return self._arena.may_grow(self)


class Arena:
    """The allocator. Fixed at start: sizes and budget; everything else is owned by the loop's thread.

    used_bytes: resident bytes of slabs in use; reserve_used_bytes: of those allocated as reserve among them;
    idle_bytes: of free slabs.
    room_callback: called (from release) when room appears after a refusal; whoever was refused asks again.
    """

    def __init__(
        self, region: Region, request_size_bytes_max: int, budget_bytes: int,
        reserve_bytes: int = 0, idle_kept_bytes: int = IDLE_KEPT_BYTES_DEFAULT,
    ) -> None:
        """budget_bytes: touched bytes in use at most; the last reserve_bytes of it only for
        `allocate(..., reserve=True)`. Pages that an earlier front end left are given back."""
        largest = largest_slab_size_bytes(request_size_bytes_max)
        if region.size_bytes < largest:
            raise ValueError(f"arena of {region.size_bytes} bytes cannot hold a slab of {largest}")
        if not 0 <= reserve_bytes < budget_bytes:
            raise ValueError(f"reserve of {reserve_bytes} bytes in a budget of {budget_bytes}")
        self.memory = region.memory
        self.used_bytes = 0
        self.reserve_used_bytes = 0
        self.idle_bytes = 0
        self.room_callback: Callable[[], None] | None = None
        self._mapping = region.mapping
        self._size_bytes = region.size_bytes
        self._budget_bytes = budget_bytes
        self._reserve_bytes = reserve_bytes
        self._idle_kept_bytes = idle_kept_bytes
        self._frontier = 0
        self._class_count = (largest // SLAB_SIZE_BYTES_MIN).bit_length()
        self._free: list[list[Slab]] = [[] for _ in range(self._class_count)]
        self._cold_counts = [0] * self._class_count
        self._over_budget_slabs: list[Slab | None] = [None, None]
        self._refused = False
        self._reserve_refused = False
        if region.resident_bytes():
            self._mapping.madvise(mmap.MADV_REMOVE, 0, region.size_bytes)

    def allocate(self, size_bytes: int, reserve: bool = False, continuing: bool = False) -> Slab | None:
        """A slab of at least `size_bytes` with one reference; its content is arbitrary.

        continuing: for a frame whose beginning is in another slab. The budget does not hold it back: a
        refusal would keep that other slab in use, and such frames could fill the arena and wait for room.
        None: no room now; stop reading from that socket. ValueError: no slab is ever that large.
        """
        class_index = (size_bytes - 1 >> _SHIFT_MIN).bit_length()
        if class_index >= self._class_count:
            raise ValueError(f"no slab holds {size_bytes} bytes")
        if not (continuing or self._has_room(1, reserve)):
            self._note_refusal(reserve)
            return None
        free = self._free[class_index]
        if free:
            slab = free.pop()
            if len(free) < self._cold_counts[class_index]:
                self._cold_counts[class_index] = len(free)
        else:
            made = self._make(class_index)
            if made is None:
                self._note_refusal(reserve)
                return None
            slab = made
        slab.reference_count = 1
        slab.reserved = reserve
        resident = slab.resident_bytes
        self.used_bytes += resident
        self.idle_bytes -= resident
        if reserve:
            self.reserve_used_bytes += resident
        return slab

    @property
    def under_pressure(self) -> bool:
        """Something was refused and no room has appeared since: slow senders may be cut off."""
        return self._refused

    def give_back(self, slab: Slab, class_index: int) -> None:
        """Used by Slab.release only."""
        if slab.reference_count < 0:
            raise SlabError(f"slab at {slab.offset} released while free")
        resident = slab.resident_bytes
        self.used_bytes -= resident
        self.idle_bytes += resident
        if slab.reserved:
            self.reserve_used_bytes -= resident
        self._free[class_index].append(slab)
        if self.idle_bytes > self._idle_kept_bytes + TRIM_STEP_BYTES:
            self.trim()
        was_over_budget = self._over_budget_slabs[slab.reserved] is slab
        if was_over_budget:
            self._over_budget_slabs[slab.reserved] = None
        if self._refused:
            self._note_room(was_over_budget)

    def grow(self, slab: Slab, byte_count: int) -> None:
        """Used by Slab.note_touched only."""
        if slab.reference_count <= 0 or byte_count > slab.size_bytes:
            raise SlabError(f"{byte_count} bytes touched of slab at {slab.offset}")
        more = byte_count - slab.resident_bytes
        slab.resident_bytes = byte_count
        self.used_bytes += more
        if slab.reserved:
            self.reserve_used_bytes += more

    def may_grow(self, slab: Slab) -> bool:
        """Used by Slab only."""
        reserved = slab.reserved
        if self._over_budget_slabs[reserved] is slab or self._has_room(0, reserved):
            return True
        if self._over_budget_slabs[reserved] is None:
            self._over_budget_slabs[reserved] = slab
            return True
        self._note_refusal(reserved)
        return False

    def has_room(self, byte_count: int) -> bool:
        """Whether so many bytes more may be touched for something new in an ordinary slab in use."""
        if self._has_room(byte_count, False):
            return True
        self._note_refusal(False)
        return False

    def _has_room(self, more_bytes: int, reserve: bool) -> bool:
        """Whether so many bytes more may be touched. What the reserve holds does not count against it twice."""
        if reserve:
            return (self.used_bytes + more_bytes <= self._budget_bytes
                    or self.reserve_used_bytes + more_bytes <= self._reserve_bytes)
        kept_free = max(0, self._reserve_bytes - self.reserve_used_bytes)
        return self.used_bytes + more_bytes + kept_free <= self._budget_bytes

    def _note_refusal(self, reserve: bool) -> None:
        self._refused = True
        self._reserve_refused = self._reserve_refused or reserve

    def _note_room(self, may_exceed: bool) -> None:
        """may_exceed: the slab that was allowed beyond the budget is free, so another one may be."""
        has_room = self._has_room(1, False) or self._reserve_refused and self._has_room(1, True)
        if has_room:
            self._refused = self._reserve_refused = False
        if (has_room or may_exceed) and self.room_callback is not None:
            self.room_callback()

    def trim(self) -> bool:
        """Give back up to TRIM_STEP_BYTES of idle pages beyond the kept share. True: there is more to do;
        release() calls this, and a timer should as long as it returns True.

        `_cold_counts[class]`: so many slabs at the bottom of its stack have nothing resident.
        """
        allowance = TRIM_STEP_BYTES
        for class_index in range(self._class_count - 1, -1, -1):
            free = self._free[class_index]
            while self._cold_counts[class_index] < len(free):
                excess = min(self.idle_bytes - self._idle_kept_bytes, allowance)
                if excess <= 0:
                    return self.idle_bytes > self._idle_kept_bytes
                slab = free[self._cold_counts[class_index]]
                allowance -= self._remove_pages(slab, excess)
                if not slab.resident_bytes:
                    self._cold_counts[class_index] += 1
        return False

    def _remove_pages(self, slab: Slab, excess_bytes: int) -> int:
        """Give back about `excess_bytes` from the end of what is resident in a free slab."""
        page = mmap.PAGESIZE
        resident_end = -(-slab.resident_bytes // page) * page
        kept = max(0, slab.resident_bytes - excess_bytes) // page * page
        if resident_end == kept:
            return 0
        self._mapping.madvise(mmap.MADV_REMOVE, slab.offset + kept, resident_end - kept)
        removed = slab.resident_bytes - kept
        slab.resident_bytes = kept
        self.idle_bytes -= removed
        return removed

    def _make(self, class_index: int) -> Slab | None:
        """A slab of that class where no free one exists: frontier, split, merge, in that order."""
        size = SLAB_SIZE_BYTES_MIN << class_index
        start = -(-self._frontier // size) * size
        if start + size <= self._size_bytes:
            self._free_gap(self._frontier, start)
            self._frontier = start + size
            return Slab(self, start, class_index)
        return self._split(class_index) or self._merge_and_split(class_index)

    def _free_gap(self, start: int, end: int) -> None:
        """Slabs for the space that alignment skips, each as large as its address allows."""
        while start < end:
            class_index = min((start & -start).bit_length() - 1 - _SHIFT_MIN, self._class_count - 1)
            self._free[class_index].append(Slab(self, start, class_index))
            start += SLAB_SIZE_BYTES_MIN << class_index

    def _split(self, class_index: int) -> Slab | None:
        """Cut the smallest larger free slab down; the cut-off halves become free."""
        for larger in range(class_index + 1, self._class_count):
            if self._free[larger]:
                slab = self._free[larger].pop()
                self._cold_counts[larger] = min(self._cold_counts[larger], len(self._free[larger]))
                while larger > class_index:
                    larger -= 1
                    half = SLAB_SIZE_BYTES_MIN << larger
                    upper = Slab(self, slab.offset + half, larger)
                    upper.resident_bytes = max(0, slab.resident_bytes - half)
                    lower = Slab(self, slab.offset, larger)
                    lower.resident_bytes = min(slab.resident_bytes, half)
                    self._free[larger].append(upper)
                    slab = lower
                return slab
        return None

    def _merge_and_split(self, class_index: int) -> Slab | None:
        """Address space ran out: join free buddies, smallest first, then look again. Rare."""
        for smaller in range(self._class_count - 1):
            self._merge_class(smaller)
        self._cold_counts = [0] * self._class_count
        return self._free[class_index].pop() if self._free[class_index] else self._split(class_index)

    def _merge_class(self, class_index: int) -> None:
        size = SLAB_SIZE_BYTES_MIN << class_index
        by_offset = {slab.offset: slab for slab in self._free[class_index]}
        merged: set[int] = set()
        for offset, lower in by_offset.items():
            upper = by_offset.get(offset + size)
            if offset % (2 * size) or upper is None:
                continue
            whole = Slab(self, offset, class_index + 1)
            whole.resident_bytes = lower.resident_bytes
            if upper.resident_bytes:
                whole.resident_bytes = size + upper.resident_bytes
            self.idle_bytes += whole.resident_bytes - lower.resident_bytes - upper.resident_bytes
            self._free[class_index + 1].append(whole)
            merged |= {offset, offset + size}
        if merged:
            self._free[class_index] = [slab for slab in self._free[class_index] if slab.offset not in merged]


class ArenaView:
    """Storage's and the helpers' side: no state, only memory."""

    __slots__ = ("_memory",)

    def __init__(self, region: Region) -> None:
        self._memory = region.memory

    def view(self, offset: int, size_bytes: int) -> memoryview:
        """Writable bytes, valid until the entry that named them is completed. IndexError outside."""
        if offset < 0 or size_bytes < 0 or offset + size_bytes > len(self._memory):
            raise IndexError(f"{size_bytes} bytes at {offset} of an arena of {len(self._memory)}")
        return self._memory[offset:offset + size_bytes]

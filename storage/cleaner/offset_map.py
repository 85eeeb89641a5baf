"""Key to latest offset, in memory of a fixed size: what compaction knows about the dirty part of a log. PURE.

Runs in: the cleaner's helper process. The buffer belongs to the caller; nothing else is allocated per key.

Open addressing over slots of 24 bytes, as Kafka's SkimpyOffsetMap: 16 bytes of xxh3_128 of the key as two
64-bit words, then the offset plus one (so a slot of zeros is free, and memory that was never touched stays
untouched). Keys are not kept, so two keys with the same hash count as one key, and the older one's record
would be dropped. The odds: n different keys collide with probability of about n**2 / 2**129; for the five
million keys that log.cleaner.dedupe.buffer.size holds by default that is 4e-26 per cleaning. 64 bits would be
7e-7 per cleaning, and can be made to collide on purpose (REVIEW 37).

Memory: log.cleaner.dedupe.buffer.size, divided by the number of cleaners, at most; less if the dirty part
has fewer offsets than that has slots (`size_bytes_for`).
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from xxhash import xxh3_128_intdigest

SLOT_SIZE_BYTES: Final = 24
WORDS_PER_SLOT: Final = 3
# Fewer slots than this are not worth counting; also keeps the probes of a tiny map short.
SLOT_COUNT_MIN: Final = 64
NOT_FOUND: Final = -1
_WORD_MASK: Final = (1 << 64) - 1


def size_bytes_for(offset_count: int, load_factor: float, limit_bytes: int) -> int:
    """Bytes of a map that takes `offset_count` different keys without being full, within the limit."""
    slots = max(int(offset_count / load_factor) + 2, SLOT_COUNT_MIN)
    return max(min(slots, limit_bytes // SLOT_SIZE_BYTES), 0) * SLOT_SIZE_BYTES


class OffsetMap:
    """size: keys in the map. capacity: how many it takes before it counts as full. latest_offset: see Kafka's
    OffsetMap: everything up to it has been looked at, -1 at the beginning."""

    __slots__ = ("_words", "_slot_count", "size", "capacity", "latest_offset")

    def __init__(self, buffer: memoryview, load_factor: float) -> None:
        """buffer: zeros, a multiple of SLOT_SIZE_BYTES. Raises ValueError if not even one key fits."""
        self._words = buffer.cast("Q")
        self._slot_count = len(buffer) // SLOT_SIZE_BYTES
        self.size = 0
        self.capacity = min(int(self._slot_count * load_factor), self._slot_count - 1)
        self.latest_offset = NOT_FOUND
        if self.capacity < 1:
            raise ValueError(f"an offset map of {len(buffer)} bytes takes no key: raise "
                             "log.cleaner.dedupe.buffer.size, or lower log.cleaner.threads")

    @property
    def utilization(self) -> float:
        return self.size / self._slot_count

    def put(self, key: bytes, offset: int) -> bool:
        """False, and nothing done, if the map is full and has not got this key."""
        return self.put_all((key,), (offset,)) == 1

    def put_all(self, keys: Sequence[bytes | None], offsets: Sequence[int]) -> int:
        """Each key's offset becomes its latest, in order; records without key are stepped over.

        How many of the records were taken: less than all if the map became full. As Kafka, a full map takes
        no record any more that has a key, not even of a key that it knows.
        """
        words, slot_count, size, capacity = self._words, self._slot_count, self.size, self.capacity
        end = slot_count * WORDS_PER_SLOT
        for index, key in enumerate(keys):
            if key is None:
                continue
            if size >= capacity:
                self.size = size
                return index
            digest = xxh3_128_intdigest(key)
            low, high = digest & _WORD_MASK, digest >> 64
            at = low % slot_count * WORDS_PER_SLOT
            while words[at + 2]:
                if words[at] == low and words[at + 1] == high:
                    break
                at += WORDS_PER_SLOT
                if at == end:
                    at = 0
            else:
                words[at], words[at + 1] = low, high
                size += 1
            words[at + 2] = offsets[index] + 1
        self.size = size
        return len(keys)

    def latest_of(self, keys: Iterable[bytes | None]) -> list[int]:
        """The latest offset of each key; NOT_FOUND for an unknown one and for a record without key."""
        words, slot_count = self._words, self._slot_count
        end = slot_count * WORDS_PER_SLOT
        found = []
        for key in keys:
            if key is None:
                found.append(NOT_FOUND)
                continue
            digest = xxh3_128_intdigest(key)
            low, high = digest & _WORD_MASK, digest >> 64
            at = low % slot_count * WORDS_PER_SLOT
            while (offset := words[at + 2]) and not (words[at] == low and words[at + 1] == high):
                at += WORDS_PER_SLOT
                if at == end:
                    at = 0
            found.append(offset - 1)
        return found

    def advance_latest(self, offset: int) -> None:
        self.latest_offset = max(self.latest_offset, offset)

    def release(self) -> None:
        """Give the buffer back; the map cannot be used afterwards."""
        self._words.release()

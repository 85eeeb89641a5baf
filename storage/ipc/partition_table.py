"""The partition table: what outlives a process. One slot per partition, two halves, each kept twice.

Runs in: front end (writes its halves, reads storage's), storage (the reverse). A storage process owns
the slots [index * SLOTS_PER_STORAGE, (index + 1) * SLOTS_PER_STORAGE); who gives them out is its affair.

A half has one writer. Sequence n goes to copy n & 1, so the writer overwrites the older copy while the
newer one stays valid: a kill in the middle costs nothing, and the next write lands on the torn copy.
The checksum (xxh3 over the other seven words) is what tells torn from whole; therefore a reader may
also look while the writer is alive: it gets the newest whole copy, all its fields of one moment.
Published once per drained group, not per entry. A slot never published reads as None.
"""
from __future__ import annotations

from typing import NamedTuple

import xxhash

from storage.ipc import debug_hook
from storage.ipc.layout import (
    COPY_BODY_SIZE_BYTES,
    COPY_SIZE_BYTES,
    FRONT_END_HALF_FIELDS,
    HALF_SIZE_BYTES,
    IDENTITY_FIELDS,
    IDENTITY_SIZE_BYTES,
    SLOT_SIZE_BYTES,
    STORAGE_HALF_FIELDS,
    WORD_SIZE_BYTES,
    ControlLayout,
    struct_of,
)
from storage.ipc.region import Region

_STORAGE_HALF = struct_of(STORAGE_HALF_FIELDS)
_FRONT_END_HALF = struct_of(FRONT_END_HALF_FIELDS)
_IDENTITY = struct_of(IDENTITY_FIELDS)
_IDENTITY_WORDS = IDENTITY_SIZE_BYTES // WORD_SIZE_BYTES
_COPY_WORDS = COPY_SIZE_BYTES // WORD_SIZE_BYTES
_SEQUENCE_MASK = 0xFFFF_FFFF
_checksum = xxhash.xxh3_64_digest
_READ_ATTEMPTS_MAX = 64
"""Live reads: each attempt fails only if a whole publication fell into its microsecond."""

ROLE_NONE, ROLE_LEADER, ROLE_FOLLOWER = 0, 1, 2


class StorageHalf(NamedTuple):
    """active_position: bytes in the active segment at log_end_offset. segment_list_version: odd while
    file names change. first_unstable_offset: -1 none."""

    slot_generation: int
    log_start_offset: int
    log_end_offset: int
    active_base_offset: int
    active_position: int
    segment_list_version: int
    first_unstable_offset: int
    recovery_point: int


class FrontEndHalf(NamedTuple):
    """role: ROLE_..."""

    slot_generation: int
    role: int
    leader_epoch: int
    high_watermark: int


class PartitionTable:
    """View of the table. Publish only halves that this process owns."""

    def __init__(self, region: Region, layout: ControlLayout) -> None:
        self.slot_count = layout.slot_count
        end = layout.tables_position + layout.slot_count * SLOT_SIZE_BYTES
        self._memory = region.memory[layout.tables_position:end]
        self._words = self._memory.cast("Q")
        identities_end = layout.identities_position + layout.slot_count * IDENTITY_SIZE_BYTES
        self._identities = region.memory[layout.identities_position:identities_end].cast("Q")
        self._sequences: dict[int, int] = {}

    def publish_storage_half(
        self, slot: int, slot_generation: int, log_start_offset: int, log_end_offset: int,
        active_base_offset: int, active_position: int, segment_list_version: int,
        first_unstable_offset: int, recovery_point: int,
    ) -> None:
        """Make these values the newest of the slot; about 1 us."""
        base = self._half(slot, 0)
        sequence = self._sequence_after(base)
        body = _STORAGE_HALF.pack(sequence, slot_generation, log_start_offset, log_end_offset,
                                  active_base_offset, active_position, segment_list_version,
                                  first_unstable_offset, recovery_point)
        self._store(base, sequence, body)

    def publish_front_end_half(
        self, slot: int, slot_generation: int, role: int, leader_epoch: int, high_watermark: int
    ) -> None:
        """Make these values the newest of the slot."""
        base = self._half(slot, HALF_SIZE_BYTES)
        sequence = self._sequence_after(base)
        self._store(base, sequence,
                    _FRONT_END_HALF.pack(sequence, slot_generation, role, leader_epoch, high_watermark))

    def read_storage_half(self, slot: int) -> StorageHalf | None:
        """Newest whole copy, None if there is none."""
        body = self._newest_body(self._half(slot, 0))
        return None if body is None else StorageHalf._make(_STORAGE_HALF.unpack(body)[1:])

    def read_front_end_half(self, slot: int) -> FrontEndHalf | None:
        """Newest whole copy, None if there is none."""
        body = self._newest_body(self._half(slot, HALF_SIZE_BYTES))
        return None if body is None else FrontEndHalf._make(_FRONT_END_HALF.unpack(body)[1:])

    def publish_identity(self, slot: int, slot_generation: int, name_digest: bytes) -> None:
        """Storage, when it gives a slot to a partition, before the half of that generation is published.

        name_digest: 16 bytes. A kill in the middle leaves a wrong check: the slot is then nobody's.
        """
        check = _checksum(slot_generation.to_bytes(8, "little") + name_digest)
        first = slot * _IDENTITY_WORDS
        for index, word in enumerate(memoryview(_IDENTITY.pack(slot_generation, name_digest, check)).cast("Q")):
            debug_hook.after(f"{index} words of the identity stored")
            self._identities[first + index] = word

    def read_identity(self, slot: int) -> tuple[int, bytes] | None:
        """(slot generation, name digest), None if none was ever published whole."""
        first = slot * _IDENTITY_WORDS
        raw = self._identities[first:first + _IDENTITY_WORDS].tobytes()
        slot_generation, name_digest, check = _IDENTITY.unpack(raw)
        if check != _checksum(slot_generation.to_bytes(8, "little") + name_digest):
            return None
        return slot_generation, name_digest

    def used_slots(self, first: int, count: int) -> list[int]:
        """Slots of a range that were ever given out, in order: they are given out from the lowest on."""
        used = []
        for slot in range(first, first + count):
            if not any(self._identities[slot * _IDENTITY_WORDS:(slot + 1) * _IDENTITY_WORDS]):
                break
            used.append(slot)
        return used

    def _half(self, slot: int, half_position: int) -> int:
        if not 0 <= slot < self.slot_count:
            raise ValueError(f"slot {slot}, the table has {self.slot_count}")
        return slot * SLOT_SIZE_BYTES + half_position

    def _sequence_after(self, base: int) -> int:
        """Of this process's next publication; read from the memory only the first time."""
        sequence = self._sequences.get(base)
        if sequence is None:
            body = self._newest_body(base)
            sequence = -1 if body is None else int.from_bytes(body[:4], "little")
        self._sequences[base] = sequence = sequence + 1 & _SEQUENCE_MASK
        return sequence

    def _store(self, base: int, sequence: int, body: bytes) -> None:
        position = base + (sequence & 1) * COPY_SIZE_BYTES
        copy = body + _checksum(body)
        if debug_hook.hook is None:
            self._memory[position:position + COPY_SIZE_BYTES] = copy
            return
        words = memoryview(copy).cast("Q")
        for index, word in enumerate(words):
            debug_hook.after(f"{index} words of the copy stored")
            self._words[position // WORD_SIZE_BYTES + index] = word
        debug_hook.after("copy stored")

    def _newest_body(self, base: int) -> bytes | None:
        """A live writer can spoil both looks (one copy each); a dead one at most one copy."""
        for _ in range(_READ_ATTEMPTS_MAX):
            even, odd = self._body(base), self._body(base + COPY_SIZE_BYTES)
            if even is not None and odd is not None:
                ahead = int.from_bytes(odd[:4], "little") - int.from_bytes(even[:4], "little")
                return odd if ahead & _SEQUENCE_MASK < 1 << 31 else even
            found = odd if even is None else even
            if found is not None or not any(self._memory[base:base + HALF_SIZE_BYTES]):
                return found
        return None

    def _body(self, position: int) -> bytes | None:
        copy = bytes(self._memory[position:position + COPY_SIZE_BYTES])
        body = copy[:COPY_BODY_SIZE_BYTES]
        return body if _checksum(body) == copy[COPY_BODY_SIZE_BYTES:] else None

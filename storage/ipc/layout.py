"""The one map of the control region: every byte that two processes share, the arena's payloads excepted.

Runs in: all processes. Nobody owns state here; the writer of each part is named in the drawing.
The drawing is made by `draw()` from the constants; a test compares the two.

control region of 2 storage processes (40382464 bytes, sparse)
| header: magic 0, front ends 8, storage processes 16, size in bytes 24| 0
| link 0.0 words, by writer (next drawing)                      | 4096
|   submissions 4096 x 64 (front end)                           | 8192
|   completions 8192 x 128 (storage 0)                          | 270336
| link 0.1 words, by writer (next drawing)                      | 1318912
|   submissions 4096 x 64 (front end)                           | 1323008
|   completions 8192 x 128 (storage 1)                          | 1585152
| table of storage 0: 65536 slots x 256                         | 2633728
| table of storage 1: 65536 slots x 256                         | 19410944
| identities of storage 0: 65536 x 32 (storage 0)               | 36188160
| identities of storage 1: 65536 x 32 (storage 1)               | 38285312

words of a link (8 bytes each, one per cache line)
| generation (supervisor)                                       | 0
| submission tail (front end)                                   | 64
| completion tail (storage)                                     | 128
| working slot (storage)                                        | 192

slot (256 bytes)
| storage half, copy of even sequences                          | 0
| storage half, copy of odd sequences                           | 64
| front-end half, copy of even sequences                        | 128
| front-end half, copy of odd sequences                         | 192

submission (struct codes, little-endian)
  0 kind:B 1 flags:B 2 front_end:B 3 unused:x 4 slot:I 8 slot_generation:I 12 leader_epoch:i
  16 request_id:Q 24 arena_offset:Q 32 size:I 36 extra:I 40 arg0:q 48 arg1:q 56 unused:8x

completion (struct codes, little-endian)
  0 kind:B 1 flags:B 2 error:h 4 slot:I 8 slot_generation:I 12 extra:I 16 request_id:Q
  24 base_offset:q 32 last_offset:q 40 log_end_offset:q 48 log_start_offset:q
  56 first_unstable_offset:q 64 append_time_ms:q 72 active_base_offset:q 80 active_position:I
  84 segment_list_version:I 88 result_arena_offset:Q 96 result_size:I 100 leader_epoch:i
  104 arg0:q 112 unused:16x

copy of the storage half (struct codes, little-endian)
  0 sequence:I 4 slot_generation:I 8 log_start_offset:q 16 log_end_offset:q
  24 active_base_offset:q 32 active_position:I 36 segment_list_version:I
  40 first_unstable_offset:q 48 recovery_point:q
  56 xxh3_64 of the bytes before:8s

copy of the front-end half (struct codes, little-endian)
  0 sequence:I 4 slot_generation:I 8 role:i 12 leader_epoch:i 16 high_watermark:q 24 unused:32x
  56 xxh3_64 of the bytes before:8s

identity of a slot (struct codes, little-endian)
  0 slot_generation:Q 8 name_digest:16s 24 check:8s

A link belongs to one front end and one storage process ([front end][storage], so that further front
ends find their place). Both rings are single producer, single consumer; positions count up from 0 in
each generation and are reduced by the ring's size.

Every limit has its reason beside it; relations between limits are checked at import.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = 0x4F54544C41_0001
"""First word of a control region: "OTTLA" and the version of this map."""

PAGE_SIZE_BYTES = 4096
WORD_SIZE_BYTES = 8
CACHE_LINE_SIZE_BYTES = 64

HEADER_SIZE_BYTES = PAGE_SIZE_BYTES
LINK_WORDS_SIZE_BYTES = PAGE_SIZE_BYTES

SUBMISSION_SIZE_BYTES = 64
COMPLETION_SIZE_BYTES = 128
SUBMISSION_RING_ENTRIES = 4096
"""About 5 ms of work at 800,000 appends a second; beyond that, waiting in sockets is cheaper."""
COMPLETION_RING_ENTRIES = 8192
"""Holds one completion for every submission in flight and every unasked completion credited."""
UNASKED_CREDITS = 1024
"""Unasked completions that storage may have published without being credited again."""
CREDIT_SUBMISSIONS_MAX = 4
"""CREDIT entries that may be unread at once; two can be, see ring.py. They have no completion."""
IN_FLIGHT_MAX = min(
    SUBMISSION_RING_ENTRIES - CREDIT_SUBMISSIONS_MAX, COMPLETION_RING_ENTRIES - UNASKED_CREDITS
)
"""Submissions without a completion taken: bounded by both rings."""

SLOT_SIZE_BYTES = 256
HALF_SIZE_BYTES = 128
COPY_SIZE_BYTES = 64
IDENTITY_SIZE_BYTES = 32
"""Beside each slot: the generation it was given out under and 16 bytes that stand for the partition's name."""
COPY_BODY_SIZE_BYTES = COPY_SIZE_BYTES - WORD_SIZE_BYTES
SLOTS_PER_STORAGE = 65536
"""Partitions of one directory; sparse, 16 MiB of address space each. Kafka is run with a few thousand."""
STORAGE_COUNT_MAX = 64
"""Entries of log.dirs; more disks than that in one machine are not sold."""
FRONT_END_COUNT_MAX = 16
FREE_SLOT = 0xFFFF_FFFF
"""Slot number of entries that concern no partition."""

# Words of a link, as byte positions in its first page; one cache line each, so that writers do not share one.
WORD_GENERATION = 0
WORD_SUBMISSION_TAIL = 64
WORD_COMPLETION_TAIL = 128
WORD_WORKING_SLOT = 192

LINK_WORDS = (
    ("generation", WORD_GENERATION, "supervisor"),
    ("submission tail", WORD_SUBMISSION_TAIL, "front end"),
    ("completion tail", WORD_COMPLETION_TAIL, "storage"),
    ("working slot", WORD_WORKING_SLOT, "storage"),
)

HEADER_WORDS = (("magic", 0), ("front ends", 8), ("storage processes", 16), ("size in bytes", 24))

Fields = tuple[tuple[str, str], ...]

SUBMISSION_FIELDS: Fields = (
    ("kind", "B"), ("flags", "B"), ("front_end", "B"), ("", "x"),
    ("slot", "I"), ("slot_generation", "I"), ("leader_epoch", "i"),
    ("request_id", "Q"), ("arena_offset", "Q"), ("size", "I"), ("extra", "I"),
    ("arg0", "q"), ("arg1", "q"), ("", "8x"),
)
COMPLETION_FIELDS: Fields = (
    ("kind", "B"), ("flags", "B"), ("error", "h"),
    ("slot", "I"), ("slot_generation", "I"), ("extra", "I"), ("request_id", "Q"),
    ("base_offset", "q"), ("last_offset", "q"), ("log_end_offset", "q"), ("log_start_offset", "q"),
    ("first_unstable_offset", "q"), ("append_time_ms", "q"), ("active_base_offset", "q"),
    ("active_position", "I"), ("segment_list_version", "I"),
    ("result_arena_offset", "Q"), ("result_size", "I"), ("leader_epoch", "i"), ("arg0", "q"), ("", "16x"),
)
STORAGE_HALF_FIELDS: Fields = (
    ("sequence", "I"), ("slot_generation", "I"), ("log_start_offset", "q"), ("log_end_offset", "q"),
    ("active_base_offset", "q"), ("active_position", "I"), ("segment_list_version", "I"),
    ("first_unstable_offset", "q"), ("recovery_point", "q"),
)
FRONT_END_HALF_FIELDS: Fields = (
    ("sequence", "I"), ("slot_generation", "I"), ("role", "i"), ("leader_epoch", "i"),
    ("high_watermark", "q"), ("", "32x"),
)

IDENTITY_FIELDS: Fields = (("slot_generation", "Q"), ("name_digest", "16s"), ("check", "8s"))


def struct_of(fields: Fields) -> struct.Struct:
    """Little-endian, unaligned struct of a field table; padding is part of the table."""
    return struct.Struct("<" + "".join(code for _, code in fields))


@dataclass(frozen=True)
class ControlLayout:
    """Where everything lies in the control region of a node with that many processes."""

    storage_count: int
    front_end_count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.storage_count <= STORAGE_COUNT_MAX:
            raise ValueError(f"{self.storage_count} storage processes, allowed are 1 to {STORAGE_COUNT_MAX}")
        if not 1 <= self.front_end_count <= FRONT_END_COUNT_MAX:
            raise ValueError(f"{self.front_end_count} front ends, allowed are 1 to {FRONT_END_COUNT_MAX}")

    @property
    def tables_position(self) -> int:
        return HEADER_SIZE_BYTES + self.front_end_count * self.storage_count * LINK_SIZE_BYTES

    @property
    def identities_position(self) -> int:
        return self.tables_position + self.storage_count * TABLE_SIZE_BYTES

    @property
    def size_bytes(self) -> int:
        return self.identities_position + self.storage_count * IDENTITIES_SIZE_BYTES

    @property
    def slot_count(self) -> int:
        return self.storage_count * SLOTS_PER_STORAGE

    def link_position(self, storage: int, front_end: int = 0) -> int:
        """Byte position of the link of that pair of processes."""
        if not (0 <= storage < self.storage_count and 0 <= front_end < self.front_end_count):
            raise ValueError(f"no link of front end {front_end} and storage process {storage}")
        return HEADER_SIZE_BYTES + (front_end * self.storage_count + storage) * LINK_SIZE_BYTES


SUBMISSIONS_POSITION = LINK_WORDS_SIZE_BYTES
COMPLETIONS_POSITION = SUBMISSIONS_POSITION + SUBMISSION_RING_ENTRIES * SUBMISSION_SIZE_BYTES
LINK_SIZE_BYTES = COMPLETIONS_POSITION + COMPLETION_RING_ENTRIES * COMPLETION_SIZE_BYTES
TABLE_SIZE_BYTES = SLOTS_PER_STORAGE * SLOT_SIZE_BYTES
IDENTITIES_SIZE_BYTES = SLOTS_PER_STORAGE * IDENTITY_SIZE_BYTES


def _check_limits() -> None:
    """The relations between the numbers above; wrong ones must not survive the import."""
    relations = (
        (SUBMISSION_RING_ENTRIES & (SUBMISSION_RING_ENTRIES - 1) == 0, "submission ring: a power of two"),
        (COMPLETION_RING_ENTRIES & (COMPLETION_RING_ENTRIES - 1) == 0, "completion ring: a power of two"),
        (struct_of(SUBMISSION_FIELDS).size == SUBMISSION_SIZE_BYTES, "submission entry size"),
        (struct_of(COMPLETION_FIELDS).size == COMPLETION_SIZE_BYTES, "completion entry size"),
        (struct_of(STORAGE_HALF_FIELDS).size == COPY_BODY_SIZE_BYTES, "storage half size"),
        (struct_of(IDENTITY_FIELDS).size == IDENTITY_SIZE_BYTES, "identity size"),
        (struct_of(FRONT_END_HALF_FIELDS).size == COPY_BODY_SIZE_BYTES, "front-end half size"),
        (2 * 2 * COPY_SIZE_BYTES == 2 * HALF_SIZE_BYTES == SLOT_SIZE_BYTES, "slot: 2 halves of 2 copies"),
        (LINK_SIZE_BYTES % PAGE_SIZE_BYTES == 0, "links begin on pages"),
        (IN_FLIGHT_MAX + UNASKED_CREDITS <= COMPLETION_RING_ENTRIES, "completion ring holds all"),
        (IN_FLIGHT_MAX + CREDIT_SUBMISSIONS_MAX <= SUBMISSION_RING_ENTRIES, "submission ring holds all"),
        (STORAGE_COUNT_MAX * SLOTS_PER_STORAGE < FREE_SLOT, "slots fit 32 bits"),
    )
    for holds, what in relations:
        if not holds:
            raise AssertionError(f"layout: {what}")


_check_limits()


def draw(storage_count: int = 2) -> str:
    """The map as text, made from the constants."""
    layout = ControlLayout(storage_count)
    lines = [f"control region of {storage_count} storage processes ({layout.size_bytes} bytes, sparse)"]
    lines.append(_box("header: " + ", ".join(f"{name} {at}" for name, at in HEADER_WORDS), 0))
    for index in range(storage_count):
        at = layout.link_position(index)
        lines.append(_box(f"link 0.{index} words, by writer (next drawing)", at))
        submissions = f"  submissions {SUBMISSION_RING_ENTRIES} x {SUBMISSION_SIZE_BYTES} (front end)"
        completions = f"  completions {COMPLETION_RING_ENTRIES} x {COMPLETION_SIZE_BYTES} (storage {index})"
        lines.append(_box(submissions, at + SUBMISSIONS_POSITION))
        lines.append(_box(completions, at + COMPLETIONS_POSITION))
    for index in range(storage_count):
        lines.append(_box(f"table of storage {index}: {SLOTS_PER_STORAGE} slots x {SLOT_SIZE_BYTES}",
                          layout.tables_position + index * TABLE_SIZE_BYTES))
    for index in range(storage_count):
        text = f"identities of storage {index}: {SLOTS_PER_STORAGE} x {IDENTITY_SIZE_BYTES} (storage {index})"
        lines.append(_box(text, layout.identities_position + index * IDENTITIES_SIZE_BYTES))
    lines += ["", f"words of a link ({WORD_SIZE_BYTES} bytes each, one per cache line)"]
    lines += [_box(f"{name} ({writer})", at) for name, at, writer in LINK_WORDS]
    lines += ["", f"slot ({SLOT_SIZE_BYTES} bytes)"]
    for half, writer in enumerate(("storage", "front-end")):
        for copy in range(2):
            lines.append(_box(f"{writer} half, copy of {'odd' if copy else 'even'} sequences",
                              half * HALF_SIZE_BYTES + copy * COPY_SIZE_BYTES))
    for title, fields in (("submission", SUBMISSION_FIELDS), ("completion", COMPLETION_FIELDS),
                          ("copy of the storage half", STORAGE_HALF_FIELDS),
                          ("copy of the front-end half", FRONT_END_HALF_FIELDS)):
        lines += ["", f"{title} (struct codes, little-endian)", *_draw_fields(fields)]
        if "copy" in title:
            lines.append(f"  {COPY_BODY_SIZE_BYTES} xxh3_64 of the bytes before:8s")
    lines += ["", "identity of a slot (struct codes, little-endian)", *_draw_fields(IDENTITY_FIELDS)]
    return "\n".join(lines)


def _box(text: str, at: int) -> str:
    return f"| {text:<62}| {at}"


def _draw_fields(fields: Fields) -> list[str]:
    lines, line, at = [], " ", 0
    for name, code in fields:
        word = f" {at} {name or 'unused'}:{code}"
        if len(line) + len(word) > 98:
            lines.append(line)
            line = " "
        line += word
        at += struct.calcsize("<" + code)
    return [*lines, line]

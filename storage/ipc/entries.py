"""Kinds and fields of ring entries, in both directions. The bytes are drawn in layout.py.

Runs in: front end and storage. PURE: no state.
Rings hand entries over as plain tuples in field order (a NamedTuple costs 0.3 us each to make);
`Submission._make(entry)` and `Completion._make(entry)` give them names where speed does not matter,
and `S_...`/`C_...` are the indices where it does.
"""
from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from storage.ipc.layout import COMPLETION_FIELDS, SUBMISSION_FIELDS, struct_of

SUBMISSION = struct_of(SUBMISSION_FIELDS)
COMPLETION = struct_of(COMPLETION_FIELDS)

FIRST_UNASKED_KIND = 128
"""Completion kinds from here on answer no submission and are bounded by credits."""


class SubmissionKind(IntEnum):
    """What the front end asks of storage. One order with the appends of the same partition."""

    APPEND = 1
    OPEN = 2
    BECOME_LEADER = 3
    BECOME_FOLLOWER = 4
    CLOSE_PARTITION = 5
    DELETE_PARTITION = 6
    TRUNCATE = 7
    LOG_START = 8
    CONFIGURE = 9
    FLUSH = 10
    CREDIT = 127
    """Sent and taken by the rings themselves; arg0 is the number of unasked completions taken."""


class CompletionKind(IntEnum):
    """Answers carry the kind of the submission; the rest come unasked."""

    APPEND = 1
    OPEN = 2
    BECOME_LEADER = 3
    BECOME_FOLLOWER = 4
    CLOSE_PARTITION = 5
    DELETE_PARTITION = 6
    TRUNCATE = 7
    LOG_START = 8
    CONFIGURE = 9
    FLUSH = 10
    SEGMENTS_CHANGED = FIRST_UNASKED_KIND
    LOG_START_MOVED = FIRST_UNASKED_KIND + 1
    DIRECTORY_FAILED = FIRST_UNASKED_KIND + 2
    STABLE_OFFSET_MOVED = FIRST_UNASKED_KIND + 3


class Submission(NamedTuple):
    """size: bytes at arena_offset. extra, arg0, arg1: by kind. leader_epoch: required, -1 = any."""

    kind: int
    flags: int
    front_end: int
    slot: int
    slot_generation: int
    leader_epoch: int
    request_id: int
    arena_offset: int
    size: int
    extra: int
    arg0: int
    arg1: int


class Completion(NamedTuple):
    """error: Kafka's code. Offsets are -1 when they mean nothing for the kind."""

    kind: int
    flags: int
    error: int
    slot: int
    slot_generation: int
    extra: int
    request_id: int
    base_offset: int
    last_offset: int
    log_end_offset: int
    log_start_offset: int
    first_unstable_offset: int
    append_time_ms: int
    active_base_offset: int
    active_position: int
    segment_list_version: int
    result_arena_offset: int
    result_size: int
    leader_epoch: int
    arg0: int


(S_KIND, S_FLAGS, S_FRONT_END, S_SLOT, S_SLOT_GENERATION, S_LEADER_EPOCH, S_REQUEST_ID, S_ARENA_OFFSET,
 S_SIZE, S_EXTRA, S_ARG0, S_ARG1) = range(len(Submission._fields))
(C_KIND, C_FLAGS, C_ERROR, C_SLOT, C_SLOT_GENERATION, C_EXTRA, C_REQUEST_ID, C_BASE_OFFSET, C_LAST_OFFSET,
 C_LOG_END_OFFSET, C_LOG_START_OFFSET, C_FIRST_UNSTABLE_OFFSET, C_APPEND_TIME_MS, C_ACTIVE_BASE_OFFSET,
 C_ACTIVE_POSITION, C_SEGMENT_LIST_VERSION, C_RESULT_ARENA_OFFSET, C_RESULT_SIZE, C_LEADER_EPOCH,
 C_ARG0) = range(len(Completion._fields))

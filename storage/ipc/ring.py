"""The two rings of a link: submissions to storage, completions back. Single producer, single consumer.

Runs in: front end (SubmissionProducer, CompletionConsumer) and storage (SubmissionConsumer,
CompletionProducer). Each object is owned by one thread of its process.

Publication: entries are packed into memory that nobody reads yet; `flush()` stores the tail word and
rings the doorbell with the number of entries. The consumer takes that number, no more: the eventfd is
the memory barrier. The tail word is read only by `take_over()`, after its writer is dead.

Room is never learned from the other side's position, only from entries received:
- A completion taken proves its submission read (submissions are read in order). So at most
  IN_FLIGHT_MAX submissions are without a taken completion, which bounds both rings.
- Unasked completions spend credits. Storage begins with UNASKED_CREDITS; the consumer gives back what
  it took by a CREDIT submission once half of them are taken. CREDIT has no completion, but the use of
  its credits proves it read: when the third is sent, storage has spent more than it could have without
  the first. So at most two are unread, and CREDIT_SUBMISSIONS_MAX slots are kept for them.

A generation begins with `RingLink.reset` and fresh doorbells, and ends with the death of either side.
"""
from __future__ import annotations

from storage.ipc import debug_hook
from storage.ipc.doorbell import Doorbell
from storage.ipc.entries import COMPLETION, FIRST_UNASKED_KIND, SUBMISSION, SubmissionKind
from storage.ipc.layout import (
    COMPLETION_RING_ENTRIES,
    COMPLETION_SIZE_BYTES,
    COMPLETIONS_POSITION,
    CREDIT_SUBMISSIONS_MAX,
    FREE_SLOT,
    IN_FLIGHT_MAX,
    LINK_SIZE_BYTES,
    SUBMISSION_RING_ENTRIES,
    SUBMISSION_SIZE_BYTES,
    SUBMISSIONS_POSITION,
    UNASKED_CREDITS,
    WORD_COMPLETION_TAIL,
    WORD_GENERATION,
    WORD_SUBMISSION_TAIL,
    WORD_WORKING_SLOT,
    ControlLayout,
)
from storage.ipc.region import Region
from storage.ipc.words import Word

_ASKED_KINDS = bytes(range(FIRST_UNASKED_KIND))
_CREDIT = int(SubmissionKind.CREDIT)
_S_MASK = SUBMISSION_RING_ENTRIES - 1
_C_MASK = COMPLETION_RING_ENTRIES - 1
_pack_submission = SUBMISSION.pack_into
_pack_completion = COMPLETION.pack_into

SubmissionEntry = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
CompletionEntry = tuple[
    int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int
]


class RingError(Exception):
    """Our own bug: more entries than the bounds allow, or the wrong generation."""


class RingFullError(RingError):
    """`put` without room: the caller did not look at `free_count`."""


class RingLink:
    """Memory of one [front end][storage] pair: two rings and their words.

    The supervisor resets it before either side of a new generation begins.
    """

    def __init__(self, region: Region, layout: ControlLayout, storage: int, front_end: int = 0) -> None:
        position = layout.link_position(storage, front_end)
        words = region.words
        memory = region.memory[position:position + LINK_SIZE_BYTES]
        self.storage = storage
        self.front_end = front_end
        self.submissions = memory[SUBMISSIONS_POSITION:COMPLETIONS_POSITION]
        self.completions = memory[COMPLETIONS_POSITION:]
        self.generation = Word(words, position + WORD_GENERATION)
        self.submission_tail = Word(words, position + WORD_SUBMISSION_TAIL)
        self.completion_tail = Word(words, position + WORD_COMPLETION_TAIL)
        self._working_slot = Word(words, position + WORD_WORKING_SLOT)

    def reset(self, generation: int) -> None:
        """Begin `generation` with empty rings. Neither side may be using the link."""
        self.submission_tail.store(0)
        self.completion_tail.store(0)
        self._working_slot.store(0)
        self.generation.store(generation)

    def check_generation(self, generation: int) -> None:
        """RingError unless the link is in that generation."""
        now = self.generation.load()
        if now != generation:
            raise RingError(f"link of storage {self.storage} is in generation {now}, not {generation}")

    def publish_working_slot(self, slot: int, slot_generation: int) -> None:
        """Storage, before it touches a partition: whose entry kills it, if it dies now."""
        self._working_slot.store((slot_generation & 0xFFFF_FFFF) << 32 | (slot + 1))

    def clear_working_slot(self) -> None:
        """Storage, when it works on no partition."""
        self._working_slot.store(0)

    def working_slot(self) -> tuple[int, int] | None:
        """(slot, slot generation) that storage works on, or worked on when it died."""
        word = self._working_slot.load()
        return ((word & 0xFFFF_FFFF) - 1, word >> 32) if word else None


class SubmissionProducer:
    """Front end's end of the submission ring.

    free_count: entries that may be put now; grows as completions are taken.
    """

    __slots__ = ("free_count", "_bell", "_entries", "_published", "_tail", "_tail_word")

    def __init__(self, link: RingLink, doorbell: Doorbell, generation: int) -> None:
        link.check_generation(generation)
        self.free_count = IN_FLIGHT_MAX
        self._bell = doorbell
        self._entries = link.submissions
        self._tail = 0
        self._published = 0
        self._tail_word = link.submission_tail

    @property
    def in_flight_count(self) -> int:
        """Entries put whose completion was not taken."""
        return IN_FLIGHT_MAX - self.free_count

    def put(
        self, kind: int, flags: int, front_end: int, slot: int, slot_generation: int, leader_epoch: int,
        request_id: int, arena_offset: int, size: int, extra: int = 0, arg0: int = 0, arg1: int = 0,
    ) -> None:
        """Write one entry; it is seen by storage after `flush()`. RingFullError when free_count is 0."""
        if self.free_count <= 0:
            raise RingFullError("submission ring: no free entry")
        tail = self._tail
        _pack_submission(
            self._entries, (tail & _S_MASK) * SUBMISSION_SIZE_BYTES, kind, flags, front_end, slot,
            slot_generation, leader_epoch, request_id, arena_offset, size, extra, arg0, arg1,
        )
        self._tail = tail + 1
        self.free_count -= 1

    def flush(self) -> int:
        """Publish what was put since the last call; returns how many entries."""
        count = self._tail - self._published
        if count:
            debug_hook.after("submissions packed")
            self._tail_word.store(self._tail)
            debug_hook.after("submission tail stored")
            self._bell.ring(count)
            debug_hook.after("submission doorbell rung")
            self._published = self._tail
        return count

    def put_credit(self, unasked_count: int) -> None:
        """Used by CompletionConsumer only: the slots kept for credits are not in free_count."""
        tail = self._tail
        _pack_submission(self._entries, (tail & _S_MASK) * SUBMISSION_SIZE_BYTES, _CREDIT, 0, 0, FREE_SLOT,
                         0, -1, 0, 0, 0, 0, unasked_count, 0)
        self._tail = tail + 1


class CompletionConsumer:
    """Front end's end of the completion ring. Gives room back to its SubmissionProducer."""

    __slots__ = ("_bell", "_entries", "_head", "_producer", "_tail_word", "_uncredited")

    def __init__(
        self, link: RingLink, doorbell: Doorbell, generation: int, producer: SubmissionProducer
    ) -> None:
        link.check_generation(generation)
        self._bell = doorbell
        self._entries = link.completions
        self._head = 0
        self._producer = producer
        self._tail_word = link.completion_tail
        self._uncredited = 0

    def fileno(self) -> int:
        """Readable when `take()` will return entries."""
        return self._bell.fileno()

    def take(self) -> list[CompletionEntry]:
        """Entries announced by the doorbell, in order. A CREDIT it puts leaves with the next flush()."""
        count = self._bell.take()
        return self._take(count) if count else []

    def take_over(self) -> list[CompletionEntry]:
        """After the death of storage: everything it published, doorbell or not. The consumer ends here."""
        self._bell.take()
        count = self._tail_word.load() - self._head
        return self._take(count) if count else []

    def _take(self, count: int) -> list[CompletionEntry]:
        if not 0 < count <= COMPLETION_RING_ENTRIES:
            raise RingError(f"{count} completions announced, the ring holds {COMPLETION_RING_ENTRIES}")
        start = self._head & _C_MASK
        self._head += count
        end = start + count
        if end <= COMPLETION_RING_ENTRIES:
            return self._unpack(start, end)
        return self._unpack(start, COMPLETION_RING_ENTRIES) + self._unpack(0, end - COMPLETION_RING_ENTRIES)

    def _unpack(self, start: int, end: int) -> list[CompletionEntry]:
        run = self._entries[start * COMPLETION_SIZE_BYTES:end * COMPLETION_SIZE_BYTES]
        entries = list(COMPLETION.iter_unpack(run))
        unasked = len(bytes(run[::COMPLETION_SIZE_BYTES]).translate(None, _ASKED_KINDS))
        self._producer.free_count += end - start - unasked
        if unasked:
            self._note_unasked(unasked)
        return entries

    def _note_unasked(self, count: int) -> None:
        self._uncredited += count
        if self._uncredited >= UNASKED_CREDITS // 2:
            self._producer.put_credit(self._uncredited)
            self._uncredited = 0


class CompletionProducer:
    """Storage's end of the completion ring.

    unasked_credit: how many times `put_unasked` will accept an entry now.
    """

    __slots__ = ("unasked_credit", "_bell", "_entries", "_published", "_tail", "_tail_word", "_unanswered")

    def __init__(self, link: RingLink, doorbell: Doorbell, generation: int) -> None:
        link.check_generation(generation)
        self.unasked_credit = UNASKED_CREDITS
        self._bell = doorbell
        self._entries = link.completions
        self._tail = 0
        self._published = 0
        self._tail_word = link.completion_tail
        self._unanswered = 0

    def put(
        self, kind: int, flags: int, error: int, slot: int, slot_generation: int, extra: int,
        request_id: int, base_offset: int, last_offset: int, log_end_offset: int, log_start_offset: int,
        first_unstable_offset: int, append_time_ms: int, active_base_offset: int, active_position: int,
        segment_list_version: int, result_arena_offset: int = 0, result_size: int = 0,
        leader_epoch: int = -1, arg0: int = 0,
    ) -> None:
        """Answer one submission taken; the front end sees it after `flush()`.

        RingError when everything taken is answered already.
        """
        if self._unanswered <= 0:
            raise RingError("completion without an unanswered submission")
        tail = self._tail
        _pack_completion(
            self._entries, (tail & _C_MASK) * COMPLETION_SIZE_BYTES, kind, flags, error, slot,
            slot_generation, extra, request_id, base_offset, last_offset, log_end_offset, log_start_offset,
            first_unstable_offset, append_time_ms, active_base_offset, active_position,
            segment_list_version, result_arena_offset, result_size, leader_epoch, arg0,
        )
        self._tail = tail + 1
        self._unanswered -= 1

    def put_unasked(self, *fields: int) -> bool:
        """One completion of an unasked kind, all 20 fields. False = no credit now: remember that the slot
        changed and try again with its state of then, after a `take()` that brought credit."""
        if fields[0] < FIRST_UNASKED_KIND:
            raise RingError(f"completion kind {fields[0]} is an answer")
        if self.unasked_credit <= 0:
            return False
        _pack_completion(self._entries, (self._tail & _C_MASK) * COMPLETION_SIZE_BYTES, *fields)
        self._tail += 1
        self.unasked_credit -= 1
        return True

    def flush(self) -> int:
        """Publish what was put since the last call; returns how many entries."""
        count = self._tail - self._published
        if count:
            debug_hook.after("completions packed")
            self._tail_word.store(self._tail)
            debug_hook.after("completion tail stored")
            self._bell.ring(count)
            debug_hook.after("completion doorbell rung")
            self._published = self._tail
        return count

    def note_taken(self, asked_count: int, credit: int) -> None:
        """Used by SubmissionConsumer only."""
        self._unanswered += asked_count
        self.unasked_credit += credit


class SubmissionConsumer:
    """Storage's end of the submission ring. Tells its CompletionProducer what may be answered."""

    __slots__ = ("_bell", "_entries", "_head", "_producer")

    def __init__(
        self, link: RingLink, doorbell: Doorbell, generation: int, producer: CompletionProducer
    ) -> None:
        link.check_generation(generation)
        self._bell = doorbell
        self._entries = link.submissions
        self._head = 0
        self._producer = producer

    def fileno(self) -> int:
        """Readable when `take()` will return entries."""
        return self._bell.fileno()

    def take(self) -> list[SubmissionEntry]:
        """Entries announced by the doorbell, in order, without the CREDITs."""
        count = self._bell.take()
        if not count:
            return []
        if count > SUBMISSION_RING_ENTRIES:
            raise RingError(f"{count} submissions announced, the ring holds {SUBMISSION_RING_ENTRIES}")
        start = self._head & _S_MASK
        self._head += count
        end = start + count
        if end <= SUBMISSION_RING_ENTRIES:
            return self._unpack(start, end)
        return self._unpack(start, SUBMISSION_RING_ENTRIES) + self._unpack(0, end - SUBMISSION_RING_ENTRIES)

    def _unpack(self, start: int, end: int) -> list[SubmissionEntry]:
        run = self._entries[start * SUBMISSION_SIZE_BYTES:end * SUBMISSION_SIZE_BYTES]
        entries: list[SubmissionEntry] = list(SUBMISSION.iter_unpack(run))
        credit = 0
        if _CREDIT in bytes(run[::SUBMISSION_SIZE_BYTES]):
            credit = sum(entry[10] for entry in entries if entry[0] == _CREDIT)
            entries = [entry for entry in entries if entry[0] != _CREDIT]
        self._producer.note_taken(len(entries), credit)
        return entries


def open_front_end_rings(link: RingLink, submissions: Doorbell, completions: Doorbell,
                         generation: int) -> tuple[SubmissionProducer, CompletionConsumer]:
    """The front end's two ends of a link that was reset to `generation`."""
    producer = SubmissionProducer(link, submissions, generation)
    return producer, CompletionConsumer(link, completions, generation, producer)


def open_storage_rings(link: RingLink, submissions: Doorbell, completions: Doorbell,
                       generation: int) -> tuple[SubmissionConsumer, CompletionProducer]:
    """Storage's two ends of a link that was reset to `generation`."""
    producer = CompletionProducer(link, completions, generation)
    return SubmissionConsumer(link, submissions, generation, producer), producer


assert CREDIT_SUBMISSIONS_MAX > 2, "two CREDITs can be unread while a third is put"

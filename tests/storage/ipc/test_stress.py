"""Two real processes over shared memory at full speed: no torn word, no lost or doubled entry, no slab
reused while in use, no half that never was.

The CI version runs for about 20 seconds in all; `-m slow` sends a hundred million entries.
"""
from __future__ import annotations

import random
import select
import time

import pytest
import xxhash

from storage.ipc.arena import Arena, ArenaView, Slab, create_arena_region
from storage.ipc.entries import C_EXTRA, S_ARENA_OFFSET, S_EXTRA, S_REQUEST_ID, S_SIZE, CompletionKind
from storage.ipc.layout import WORD_WORKING_SLOT
from storage.ipc.partition_table import StorageHalf
from storage.ipc.words import Word
from tests.storage.ipc.links import Link, completion, submission
from tests.storage.ipc.processes import Forked

SEED = 20240612
RING_S, WORD_S, TABLE_S, ARENA_S = 8.0, 3.0, 4.0, 5.0
ENTRIES_SLOW = 100_000_000
END_KIND = 10
"""FLUSH here: storage ends after answering it."""
WATERMARKS = int(CompletionKind.LOG_START_MOVED)


def poll_once(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(30_000), "the other side is silent"


# Rings


def check_and_answer(link: Link) -> None:
    """Storage: every submission must be the next one, whole; every 64th brings an unasked completion."""
    consumer, producer = link.storage()
    number = unasked = unasked_wanted = 0
    while True:
        poll_once(consumer.fileno())
        for entry in consumer.take():
            number += 1
            if entry[0] == END_KIND:
                producer.put(*completion(number, END_KIND))
                producer.flush()
                return
            assert entry == submission(number)
            producer.put(*completion(number))
            unasked_wanted += not number & 63
        while unasked < unasked_wanted and producer.put_unasked(*completion(unasked, WATERMARKS)):
            unasked += 1
        producer.flush()


def send_and_check(link: Link, rng: random.Random, seconds: float, entries_max: int) -> int:
    """Front end: completions must be the next ones, whole, unasked ones too; returns how many were asked."""
    producer, consumer = link.front_end()
    sent = answered = unasked = 0
    until = time.monotonic() + seconds
    while sent < entries_max and time.monotonic() < until or answered < sent:
        if sent < entries_max and time.monotonic() < until:
            for _ in range(min(rng.randrange(1, 700), producer.free_count, entries_max - sent)):
                sent += 1
                producer.put(*submission(sent))
        producer.flush()
        poll_once(consumer.fileno())
        for entry in consumer.take():
            if entry[0] == WATERMARKS:
                assert entry == completion(unasked, WATERMARKS)
                unasked += 1
            else:
                answered += 1
                assert entry == completion(answered)
    producer.put(END_KIND, *submission(sent + 1)[1:])
    producer.flush()
    return answered


def run_rings(seconds: float, entries_max: int) -> None:
    print(f"seed {SEED}")
    link = Link()
    storage = Forked(lambda: check_and_answer(link))
    began = time.monotonic()
    count = send_and_check(link, random.Random(SEED), seconds, entries_max)
    assert storage.wait() == 0
    print(f"{count} entries there and back in {time.monotonic() - began:.1f} s")
    assert count > 10_000


def test_no_entry_is_lost_doubled_or_torn() -> None:
    run_rings(RING_S, ENTRIES_SLOW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_entry_of_a_hundred_million_is_lost_doubled_or_torn() -> None:
    run_rings(3600.0, ENTRIES_SLOW)


# Words


def test_no_word_is_torn() -> None:
    """Each value consists of eight equal bytes; a reader never sees a mixture."""
    link = Link()
    word = Word(link.region.words, link.layout.link_position(0) + WORD_WORKING_SLOT)
    pattern = 0x0101_0101_0101_0101
    legal = {pattern * byte for byte in range(256)}

    def write() -> None:
        while True:
            for byte in range(256):
                word.store(pattern * byte)

    child = Forked(write)
    seen: set[int] = set()
    reads = 0
    until = time.monotonic() + WORD_S
    while time.monotonic() < until:
        values = [word.load() for _ in range(10_000)]
        seen.update(values)
        reads += len(values)
    child.kill()
    print(f"{reads} reads, {len(seen)} different values")
    assert seen <= legal
    assert len(seen) > 1


# Halves


def half(number: int) -> StorageHalf:
    low = number & 0xFFFF_FFFF
    return StorageHalf(low, number, number * 2, number * 3, low ^ 1, low ^ 2, -number, number * 5)


def test_a_live_reader_sees_only_halves_that_were_published_in_order() -> None:
    link = Link()
    link.table().publish_storage_half(0, *half(0))

    def publish() -> None:
        table = link.table()
        number = 0
        while True:
            number += 1
            table.publish_storage_half(0, *half(number))

    child = Forked(publish)
    table = link.table()
    newest = reads = 0
    until = time.monotonic() + TABLE_S
    while time.monotonic() < until:
        for _ in range(1000):
            read = table.read_storage_half(0)
            assert read is not None
            assert read == half(read.log_start_offset)
            assert read.log_start_offset >= newest
            newest = read.log_start_offset
        reads += 1000
    child.kill()
    print(f"{reads} reads while {newest} were published")
    assert newest > 1000


# Slabs


def read_slowly(link: Link, view: ArenaView, rng: random.Random) -> None:
    """Storage: answers later and in another order; a slab must hold its own seed until it is answered."""
    consumer, producer = link.storage()
    held: list[tuple[int, ...]] = []
    ended = False
    while held or not ended:
        if not ended:
            if not held:
                poll_once(consumer.fileno())
            taken = consumer.take()
            ended = any(entry[0] == END_KIND for entry in taken)
            held += [entry for entry in taken if entry[0] != END_KIND]
        rng.shuffle(held)
        keep = 0 if ended else rng.randrange(0, 40)
        for entry in held[keep:]:
            payload = view.view(entry[S_ARENA_OFFSET], entry[S_SIZE])
            digest = xxhash.xxh3_64_intdigest(payload) & 0xFFFF_FFFF
            assert digest == entry[S_EXTRA], f"slab at {entry[S_ARENA_OFFSET]} was reused while in use"
            payload[:8] = entry[S_REQUEST_ID].to_bytes(8, "little")
            producer.put(1, 0, 0, 0, 0, digest, entry[S_REQUEST_ID], 0, 0, 0, 0, 0, 0, 0, 0, 0)
        del held[keep:]
        producer.flush()


def test_no_slab_is_reused_while_in_use() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    link = Link()
    region = create_arena_region(100 << 20)
    child = Forked(lambda: read_slowly(link, ArenaView(region), random.Random(SEED)))
    arena = Arena(region, 100 << 20, 64 << 20, idle_kept_bytes=1 << 20)
    used = submit_slabs(link, arena, rng, time.monotonic() + ARENA_S)
    assert child.wait() == 0
    print(f"{used} slabs used, {arena.idle_bytes} bytes idle at the end")
    assert used > 1000
    assert arena.used_bytes == 0


def submit_slabs(link: Link, arena: Arena, rng: random.Random, until: float) -> int:
    """Front end: fill, submit, and release exactly when the completion is there."""
    producer, consumer = link.front_end()
    noise = random.Random(SEED).randbytes(1 << 20)
    in_use: dict[int, Slab] = {}
    number = 0
    while time.monotonic() < until or in_use:
        while time.monotonic() < until and len(in_use) < 100:
            slab = arena.allocate(1 << rng.randrange(8, 20))
            if slab is None:
                break
            number += 1
            submit_slab(producer.put, slab, noise, rng, number)
            in_use[number] = slab
        producer.flush()
        if not in_use:
            break
        poll_once(consumer.fileno())
        for entry in consumer.take():
            slab = in_use.pop(entry[6])
            assert slab.view[:8] == entry[6].to_bytes(8, "little"), "storage's own bytes are gone"
            assert entry[C_EXTRA] >= 0
            slab.release()
    producer.put(END_KIND, 0, 0, 0, 0, 0, 0, 0, 0)
    producer.flush()
    return number


def submit_slab(put: object, slab: Slab, noise: bytes, rng: random.Random, number: int) -> None:
    size = rng.randrange(64, min(slab.size_bytes, 100_000))
    start = rng.randrange(0, len(noise) - size)
    slab.view[:size] = noise[start:start + size]
    slab.note_touched(size)
    digest = xxhash.xxh3_64_intdigest(slab.view[:size]) & 0xFFFF_FFFF
    put(1, 0, 0, 0, 0, 0, number, slab.offset, size, digest)  # type: ignore[operator]

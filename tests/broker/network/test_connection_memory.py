"""Memory of requests: what a connection holds, what it waits for, and that nobody waits for ever."""

from __future__ import annotations

import random
import struct

import pytest

from broker.network.receive import CHUNK_BYTES
from tests.broker.network.harness import (
    KIB,
    METADATA,
    MIB,
    PRODUCE,
    Bench,
    Peer,
    request_frame,
    settle,
)

pytestmark = pytest.mark.trio


def announced(size_bytes: int, sent_bytes: int) -> bytes:
    """The beginning of a large produce."""
    return struct.pack(">ih", size_bytes, PRODUCE) + bytes(sent_bytes - 6)


async def test_an_idle_connection_holds_nothing(bench: Bench) -> None:
    peers = [bench.connect()[0] for _ in range(20)]
    for peer in peers:
        await peer.send(request_frame(METADATA, 1, bytes(100)))
        await peer.receive_answer()
    bench.receive.close()
    assert bench.arena.used_bytes == 0


async def test_small_requests_share_a_chunk_and_a_full_chunk_is_replaced(bench: Bench) -> None:
    peer, _ = bench.connect()
    for number in range(3 * CHUNK_BYTES // (50 * KIB)):
        await peer.send(request_frame(PRODUCE, number, bytes(50 * KIB)))
        await settle()
    assert bench.arena.used_bytes <= 4 * CHUNK_BYTES
    bench.service.complete_all()
    assert bench.arena.used_bytes <= CHUNK_BYTES


async def test_a_large_frame_takes_memory_as_it_comes(bench: Bench) -> None:
    """REVIEW item 21: what is announced costs nothing."""
    peer, _ = bench.connect()
    await peer.send(announced(100 * MIB, 1000))
    await settle()
    assert bench.arena.used_bytes <= 4 * KIB
    await peer.send(bytes(3 * MIB))
    await settle()
    assert 3 * MIB <= bench.arena.used_bytes <= 3 * MIB + 8 * KIB


async def test_a_large_frame_is_copied_but_for_its_beginning(bench: Bench) -> None:
    """After a large frame the next one is peeked at, not read into the memory of all."""
    peer, _ = bench.connect()
    for number in range(2):
        await peer.send(request_frame(PRODUCE, number, bytes(MIB)))
        await settle()
        bench.service.complete_all()
        await peer.receive_ids(1)
    await peer.send(request_frame(PRODUCE, 3, bytes(MIB)))
    await settle()
    assert bench.receive._chunk_end == 512


async def test_without_room_a_new_request_waits_in_its_socket(bench: Bench) -> None:
    used = bench.fill(64 * MIB)
    peer, connection = bench.connect()
    await peer.send(request_frame(METADATA, 1))
    await settle()
    assert bench.service.seen == []
    assert bench.arena.under_pressure
    assert connection.frame_progress_s is None
    used.release()
    assert await peer.receive_answer() == (1, b"")
    assert not bench.arena.under_pressure


async def test_who_leaves_while_waiting_for_room_is_forgotten(bench: Bench) -> None:
    used = bench.fill(64 * MIB)
    peer, connection = bench.connect()
    await peer.send(request_frame(METADATA, 1))
    await settle()
    connection.close()
    await settle()
    assert not bench.nursery.child_tasks
    assert not bench.receive._refused
    used.release()
    assert await peer.is_closed()


async def test_the_controller_is_read_although_clients_have_filled_the_arena(bench: Bench) -> None:
    used = bench.fill(64 * MIB)
    peer, _ = bench.connect(privileged=True)
    for number in range(3):
        bench.nursery.start_soon(peer.send, request_frame(METADATA, number, bytes(200 * KIB)))
        assert await peer.receive_ids(1) == [number]
    used.release()


async def test_over_budget_one_large_frame_goes_on_and_the_others_wait(bench: Bench) -> None:
    """`Slab.may_grow` is asked before each read; the budget of the bench is 64 MiB."""
    used = bench.fill(61 * MIB)
    one, first = bench.connect()
    other, second = bench.connect()
    for peer in (one, other):
        await peer.send(announced(30 * MIB, MIB))
        await settle()
    bench.nursery.start_soon(one.send, bytes(19 * MIB + 4))
    await settle()
    bench.nursery.start_soon(other.send, bytes(29 * MIB + 4))
    await settle()
    assert bench.service.seen == []
    assert 82 * MIB <= bench.arena.used_bytes <= 84 * MIB
    assert first.frame_progress_s is not None
    assert second.frame_progress_s is None, "not its peer's fault"
    bench.nursery.start_soon(one.send, bytes(10 * MIB))
    await settle()
    (produce,) = bench.service.produces
    produce.complete()
    await settle()
    assert len(bench.service.seen) == 2
    used.release()


async def test_a_small_frame_that_has_begun_gets_its_slab_over_budget(bench: Bench) -> None:
    """Else the beginning, in the shared chunk, would keep in use what the end waits for."""
    peer, _ = bench.connect()
    data = request_frame(METADATA, 1, bytes(100))
    used = bench.fill(64 * MIB - 64 * KIB)
    await peer.send(data[:50])
    await settle()
    more_used = bench.fill(64 * KIB)
    await peer.send(data[50:])
    assert await peer.receive_ids(1) == [1]
    used.release()
    more_used.release()


@pytest.mark.parametrize("seed", range(4))
async def test_with_far_more_sent_than_there_is_room_all_is_received(bench: Bench, seed: int) -> None:
    """Connections that are all half received never wait for each other for ever."""
    rng = random.Random(seed)
    small = Bench(bench.nursery, budget_bytes=2 * MIB)
    connected = [small.connect() for _ in range(24)]
    for peer, _ in connected:
        bodies = [bytes(rng.choice((100, 60 * KIB, 200 * KIB, MIB))) for _ in range(6)]
        frames = [request_frame(PRODUCE, number, body) for number, body in enumerate(bodies)]
        small.nursery.start_soon(send_slowly, peer, b"".join(frames), rng.randrange(10**6))
    peak = 0
    while len(small.service.seen) < 6 * len(connected):
        before = len(small.service.seen), small.arena.used_bytes
        await settle()
        peak = max(peak, small.arena.used_bytes)
        held, small.service.produces = small.service.produces, []
        rng.shuffle(held)
        for produce in held:
            produce.complete()
        await settle()
        assert held or before != (len(small.service.seen), small.arena.used_bytes), f"stuck, seed {seed}"
    small.service.complete_all()
    for peer, _ in connected:
        assert await peer.receive_ids(6) == list(range(6))
    assert peak < 16 * MIB, "the budget, one frame beyond it, and a read of each connection"
    await small.close()


async def send_slowly(peer: Peer, data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    position = 0
    while position < len(data):
        size = rng.choice((1 * KIB, 50 * KIB, 400 * KIB))
        await peer.send(data[position : position + size])
        position += size

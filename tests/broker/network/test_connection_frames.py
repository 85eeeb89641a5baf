"""Frames: cut out of any fragments, of any size within the limits, refused in one line beyond them."""

from __future__ import annotations

import random
import struct

import pytest

from broker.network.connection import BARE_REQUEST_BYTES_MAX, TURN_REQUESTS_MAX
from broker.network.receive import CHUNK_BYTES, PEEK_READ_BYTES, SMALL_READ_BYTES
from tests.broker.network.harness import (
    KIB,
    METADATA,
    MIB,
    PRODUCE,
    REQUEST_BYTES_MAX,
    Bench,
    Peer,
    lines,
    request_frame,
    settle,
)

pytestmark = pytest.mark.trio

LEADER_AND_ISR, STOP_REPLICA, UPDATE_METADATA = 4, 5, 6


async def test_a_request_is_answered(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 7, b"question"))
    assert await peer.receive_answer() == (7, b"question")


async def test_a_request_may_come_byte_by_byte(bench: Bench) -> None:
    peer, _ = bench.connect()
    for byte in request_frame(METADATA, 7, b"question") + request_frame(METADATA, 8):
        await peer.send(bytes((byte,)))
        await settle()
    assert await peer.receive_ids(2) == [7, 8]
    assert bench.service.seen[0].body == b"question"


@pytest.mark.parametrize("split", range(1, 28))
async def test_two_requests_may_be_cut_anywhere(bench: Bench, split: int) -> None:
    peer, _ = bench.connect()
    data = request_frame(METADATA, 1) + request_frame(METADATA, 2)
    await peer.send(data[:split])
    await settle()
    await peer.send(data[split:])
    assert await peer.receive_ids(2) == [1, 2]


async def test_many_requests_may_come_in_one_read(bench: Bench) -> None:
    peer, _ = bench.connect()
    count = 10 * TURN_REQUESTS_MAX
    await peer.send(b"".join(request_frame(METADATA, number) for number in range(count)))
    assert await peer.receive_ids(count) == list(range(count))


@pytest.mark.parametrize(
    "size",
    [
        around + delta
        for around in (PEEK_READ_BYTES, SMALL_READ_BYTES, 2 * SMALL_READ_BYTES, CHUNK_BYTES)
        for delta in (-5, -4, -1, 0, 1)
    ],
)
async def test_sizes_around_the_reads(bench: Bench, size: int) -> None:
    """Three of a size, so that the second and third are read as after a frame of their kind."""
    peer, _ = bench.connect()
    body = random.Random(size).randbytes(size - 10)
    for number in range(3):
        await peer.send(request_frame(PRODUCE, number, body))
        await settle()
        bench.service.complete_all()
        assert await peer.receive_answer() == (number, b"")
        assert bench.service.seen[number].body == body


async def send_in_fragments(peer: Peer, data: bytes, rng: random.Random) -> None:
    position = 0
    while position < len(data):
        size = rng.choice((1, 3, 100, 5 * KIB, 70 * KIB, 300 * KIB))
        await peer.send(data[position : position + size])
        position += size
        if rng.random() < 0.3:
            await settle()


@pytest.mark.parametrize("seed", range(8))
async def test_connections_that_share_a_chunk_do_not_see_each_others_bytes(bench: Bench, seed: int) -> None:
    """The first connection of a fresh chunk reads at its position 0, as into a slab of its own."""
    rng = random.Random(seed)
    peers = [bench.connect()[0] for _ in range(4)]
    sent: list[list[bytes]] = [[] for _ in peers]
    for peer_number, peer in enumerate(peers):
        bodies = [rng.randbytes(rng.choice((0, 1, 50, 3 * KIB, 60 * KIB, 200 * KIB))) for _ in range(12)]
        sent[peer_number] = bodies
        data = b"".join(request_frame(PRODUCE, number, body) for number, body in enumerate(bodies))
        bench.nursery.start_soon(send_in_fragments, peer, data, rng)
    while len(bench.service.seen) < 12 * len(peers):
        await settle()
        bench.service.complete_all()
    for peer_number, connection in enumerate(bench.connections):
        received = [request.body for request in bench.service.seen if request.connection is connection]
        assert received == sent[peer_number], f"seed {seed}"
        assert await peers[peer_number].receive_ids(12) == list(range(12))


async def test_a_partial_frame_at_the_start_of_a_chunk_moves_away_from_it(bench: Bench) -> None:
    one, _ = bench.connect()
    other, _ = bench.connect()
    data = request_frame(METADATA, 1, b"1" * 100)
    await one.send(data[:50])
    await settle()
    await other.send(request_frame(METADATA, 2, b"2" * 100)[:90])
    await settle()
    await one.send(data[50:])
    await other.send(b"2" * 24)
    assert await one.receive_answer() == (1, b"1" * 100)
    assert await other.receive_answer() == (2, b"2" * 100)


# What is no frame

REFUSED = {
    "negative": (struct.pack(">i", -1), "frame size -1 is outside 0..104857600 (socket.request.max.bytes)"),
    "over the limit": (struct.pack(">i", REQUEST_BYTES_MAX + 1), "frame size 104857601 is outside 0..104857600"),
    "empty": (struct.pack(">i", 0), "frame of 0 bytes cannot hold a request header"),
    "shorter than a header": (struct.pack(">i", 9), "frame of 9 bytes cannot hold a request header"),
    "without records and large": (
        struct.pack(">ih", BARE_REQUEST_BYTES_MAX + 1, METADATA),
        "frame of 4194305 bytes for a request without records, which may have 4194304",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_frame_closes_its_connection_with_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture, data: bytes, reason: str
) -> None:
    peer, _ = bench.connect()
    other, _ = bench.connect()
    await peer.send(data)
    assert await peer.is_closed()
    ((level, text),) = lines(caplog)
    assert level == "WARNING"
    assert text.startswith(f"Closing connection from local: {reason}")
    await other.send(request_frame(METADATA, 1))
    assert await other.receive_answer() == (1, b"")


async def test_what_is_no_frame_is_seen_behind_whole_ones(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1) + struct.pack(">i", -5))
    assert await peer.receive_ids(1) == [1]
    assert await peer.is_closed()


async def test_a_size_above_a_small_limit_is_refused_although_the_frame_is_whole(bench: Bench) -> None:
    bench.request_bytes_max = 100
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1, bytes(90)))
    assert await peer.receive_answer() == (1, bytes(90))
    await peer.send(request_frame(METADATA, 2, bytes(91)))
    assert await peer.is_closed()


async def test_a_request_without_records_may_have_4_mib(bench: Bench) -> None:
    peer, _ = bench.connect()
    body = bytes(BARE_REQUEST_BYTES_MAX - 10)
    bench.nursery.start_soon(peer.send, request_frame(METADATA, 1, body))
    assert await peer.receive_answer() == (1, body)


async def test_the_controllers_requests_may_have_more(bench: Bench) -> None:
    peer, _ = bench.connect(privileged=True)
    body = bytes(BARE_REQUEST_BYTES_MAX + 1)
    bench.nursery.start_soon(peer.send, request_frame(METADATA, 1, body))
    assert await peer.receive_answer() == (1, body)


@pytest.mark.parametrize("key", [LEADER_AND_ISR, STOP_REPLICA, UPDATE_METADATA])
async def test_and_so_may_those_of_another_nodes_controller_where_one_is_served(bench: Bench, key: int) -> None:
    body = bytes(BARE_REQUEST_BYTES_MAX + 1)
    bench.serves_controllers = True
    peer, _ = bench.connect()
    bench.nursery.start_soon(peer.send, request_frame(key, 1, body))
    assert await peer.receive_answer() == (1, body)
    bench.serves_controllers = False
    peer, _ = bench.connect()
    await peer.send(struct.pack(">ih", BARE_REQUEST_BYTES_MAX + 1, key))
    assert await peer.is_closed()


async def test_a_produce_may_have_all_of_socket_request_max_bytes(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(request_frame(PRODUCE, 1, bytes(20 * MIB)))
    await settle()
    bench.service.complete_all()
    assert await peer.receive_answer() == (1, b"")
    assert len(bench.service.seen[0].body) == 20 * MIB

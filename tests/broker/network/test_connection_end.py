"""The end of a connection, at every point: what is answered, logged and given back. `bench` checks the slabs."""

from __future__ import annotations

import logging
import socket
import struct

import pytest
import trio

from broker.network.connection import Answer, CloseConnectionError, Request
from broker.protocol.errors import MalformedError
from tests.broker.network.harness import (
    FETCH,
    KIB,
    METADATA,
    MIB,
    PRODUCE,
    Bench,
    answer_frame,
    lines,
    request_frame,
    settle,
)

pytestmark = pytest.mark.trio

PARTS_OF_A_FRAME = {
    "nothing": b"",
    "half a size": b"\0\0",
    "a size": struct.pack(">i", 100),
    "a header": request_frame(PRODUCE, 1, bytes(100))[:14],
    "half a small frame": request_frame(METADATA, 1, bytes(100))[:60],
    "half a large frame": request_frame(PRODUCE, 1, bytes(MIB))[: 300 * KIB],
    "all but a byte": request_frame(PRODUCE, 1, bytes(MIB))[:-1],
}


@pytest.mark.parametrize("data", PARTS_OF_A_FRAME.values(), ids=PARTS_OF_A_FRAME)
async def test_a_peer_may_leave_in_the_middle_of_a_frame(
    bench: Bench, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    peer, connection = bench.connect()
    await peer.send(data)
    await settle()
    peer.close()
    await settle()
    assert bench.closed == [connection]
    assert bench.service.seen == []
    assert lines(caplog) == []


@pytest.mark.parametrize("data", PARTS_OF_A_FRAME.values(), ids=PARTS_OF_A_FRAME)
async def test_a_peer_may_leave_behind_a_produce_and_a_part_of_the_next_frame(bench: Bench, data: bytes) -> None:
    """The slab of the produce stays until storage has completed it (REVIEW item 10)."""
    peer, connection = bench.connect()
    await peer.send(request_frame(PRODUCE, 9, bytes(200 * KIB)) + data)
    await settle()
    peer.close()
    await settle()
    (produce,) = bench.service.produces
    assert bench.arena.used_bytes > 200 * KIB
    produce.complete()
    bench.service.produces.clear()
    await settle()
    assert bench.closed == [connection]


async def test_a_peer_may_reset_the_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        connection = bench.serve(listening.accept()[0])
    await settle()
    client.send(request_frame(FETCH, 1))
    while not bench.service.fetches:
        await trio.lowlevel.checkpoint()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    while not connection.closed:
        await trio.lowlevel.checkpoint()
    assert bench.service.fetches[0].is_abandoned
    assert lines(caplog) == []


async def test_a_fetch_is_abandoned_when_its_peer_leaves(bench: Bench) -> None:
    peer, connection = bench.connect()
    await peer.send(request_frame(FETCH, 1))
    await settle()
    peer.close()
    await settle()
    assert bench.service.fetches[0].is_abandoned
    bench.service.fetches[0].answer()
    assert bench.closed == [connection]


async def test_a_peer_may_leave_while_its_request_is_handled(bench: Bench) -> None:
    proceed = trio.Event()

    async def slow(request: Request, correlation_id: int) -> Answer:
        await proceed.wait()
        return answer_frame(correlation_id)

    bench.service.handlers[METADATA] = slow
    peer, connection = bench.connect()
    await peer.send(request_frame(METADATA, 1))
    await settle()
    peer.close()
    proceed.set()
    await settle()
    assert bench.closed == [connection]


async def test_a_peer_that_only_sends_no_more_gets_its_answers(bench: Bench) -> None:
    """A half-closed connection, as `nc -N` leaves it."""
    peer, _ = bench.connect()
    await peer.send(request_frame(PRODUCE, 1) + request_frame(PRODUCE, 2))
    peer.sock.shutdown(socket.SHUT_WR)
    await settle()
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [1, 2]
    assert await peer.is_closed()


async def test_a_peer_that_only_sends_no_more_gets_the_rest_of_a_large_answer(bench: Bench) -> None:
    bench.service.handlers[METADATA] = lambda _, number: answer_frame(number, bytes(MIB))
    peer, _ = bench.connect(send_buffer_bytes=1)
    await peer.send(request_frame(METADATA, 1))
    peer.sock.shutdown(socket.SHUT_WR)
    assert await peer.receive_answer() == (1, bytes(MIB))
    assert await peer.is_closed()


async def test_a_peer_that_takes_no_answers_after_its_end_is_not_waited_for_long(
    bench: Bench, mock_clock: trio.testing.MockClock
) -> None:
    peer, connection = bench.connect()
    await peer.send(request_frame(PRODUCE, 1))
    peer.sock.shutdown(socket.SHUT_WR)
    await settle()
    mock_clock.jump(29)
    await settle()
    assert not connection.closed
    mock_clock.jump(2)
    await settle()
    assert connection.closed


async def test_what_came_before_a_wrong_frame_is_answered(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """As in Kafka, which looks at a frame when its predecessor is answered."""
    peer, _ = bench.connect()
    await peer.send(request_frame(PRODUCE, 1) + request_frame(PRODUCE, 2) + struct.pack(">ih", 3, 0))
    await settle()
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [1, 2]
    assert await peer.is_closed()
    assert len(lines(caplog)) == 1


async def test_a_fetch_that_waits_is_answered_before_the_wrong_frame_behind_it_counts(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(request_frame(FETCH, 1) + struct.pack(">i", -1))
    await settle()
    bench.service.fetches[0].answer(b"data")
    assert await peer.receive_answer() == (1, b"data")
    assert await peer.is_closed()


async def test_a_refused_request_closes_its_connection_with_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: Request, correlation_id: int) -> Answer:
        raise MalformedError("an array is longer than its frame")

    bench.service.handlers[METADATA] = refuse
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1) + request_frame(PRODUCE, 2))
    assert await peer.is_closed()
    assert bench.service.correlation_ids == [1]
    assert lines(caplog) == [("WARNING", "Closing connection from local: an array is longer than its frame")]


async def test_no_honest_answer_closes_the_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def lose(request: Request, correlation_id: int) -> Answer:
        raise CloseConnectionError("outcome unknown")

    bench.service.handlers[METADATA] = lose
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1))
    assert await peer.is_closed()
    assert lines(caplog) == [("WARNING", "Closing connection from local: outcome unknown")]


async def test_an_error_of_our_own_costs_one_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def stumble(request: Request, correlation_id: int) -> Answer:
        raise KeyError("our own bug")

    bench.service.handlers[METADATA] = stumble
    peer, _ = bench.connect()
    other, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1))
    assert await peer.is_closed()
    assert lines(caplog) == [("ERROR", "Closing connection from local: error of our own")]
    assert caplog.records[-1].exc_info is not None
    await other.send(request_frame(FETCH, 2))
    await settle()
    bench.service.fetches[0].answer()
    assert await other.receive_ids(1) == [2]


async def test_an_unreachable_peer_is_no_error_of_our_own(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """recv may fail with errors that are neither ConnectionError nor TimeoutError (keep-alive, ICMP)."""

    class Unreachable(socket.socket):
        def recv_into(self, *_: object) -> int:
            raise OSError(113, "No route to host")

    ours, theirs = socket.socketpair()
    connection = bench.serve(Unreachable(fileno=ours.detach()))
    with theirs:
        theirs.send(b"x")
        await settle()
    assert connection.closed
    assert lines(caplog) == [("WARNING", "Connection from local: [Errno 113] No route to host")]


# Closed from our side


async def test_a_closed_connection_ends_its_task_wherever_that_waits(bench: Bench) -> None:
    async def slow(request: Request, correlation_id: int) -> Answer:
        await trio.sleep_forever()
        return None

    bench.service.handlers[METADATA + 1] = slow
    for data in (b"", b"\0\0", request_frame(FETCH, 1), request_frame(FETCH, 1) + request_frame(METADATA, 2)):
        peer, connection = bench.connect()
        await peer.send(data)
        await settle()
        connection.close()
        connection.close()
        assert await peer.is_closed()
        await settle()
    assert len(bench.closed) == 4
    assert not bench.nursery.child_tasks


async def test_a_connection_closed_before_its_task_begins_does_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    peer, connection = bench.connect()
    connection.close()
    await settle()
    assert await peer.is_closed()
    assert bench.closed == [connection]
    assert lines(caplog) == []


async def test_a_request_stays_readable_for_its_handler_after_the_close(bench: Bench) -> None:
    """The slab must not be handed out again while a handler awaits with its request in it."""
    proceed = trio.Event()
    kept: list[bytes] = []

    async def slow(request: Request, correlation_id: int) -> Answer:
        await proceed.wait()
        kept.append(bytes(request.view[request.start : request.end]))
        return answer_frame(correlation_id)

    bench.service.handlers[METADATA] = slow
    peer, connection = bench.connect()
    data = request_frame(METADATA, 1, b"q" * 100 * KIB)
    await peer.send(data)
    await settle()
    connection.close()
    bench.receive.close()
    taken = [bench.fill(size) for size in (64 * KIB, 128 * KIB, 256 * KIB, MIB)]
    for slab in taken:
        slab.view[:] = bytes(slab.size_bytes)
    proceed.set()
    await settle()
    assert kept == [data[4:]]
    for slab in taken:
        slab.release()


async def test_a_completion_after_the_close_is_only_counted(bench: Bench) -> None:
    peer, connection = bench.connect()
    await peer.send(request_frame(PRODUCE, 1) + request_frame(PRODUCE, 2))
    await settle()
    connection.close()
    bench.service.complete_all()
    assert (len(connection.outbox), connection.outbox_bytes) == (0, 0)
    assert await peer.is_closed()


async def test_ordinary_ends_are_for_debugging_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        peer, _ = bench.connect()
        await peer.send(request_frame(METADATA, 1))
        await peer.receive_answer()
        peer.close()
        await settle()
    assert caplog.records == []

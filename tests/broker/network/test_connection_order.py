"""Order: only Produce is pipelined, answers leave in the order of their requests (behaviours 5, 7 and 82)."""

from __future__ import annotations

import pytest
import trio

from broker.network import connection as connection_module
from broker.network.connection import Answer, Request
from tests.broker.network.harness import (
    FETCH,
    METADATA,
    PRODUCE,
    Bench,
    answer_frame,
    lines,
    request_frame,
    settle,
)

pytestmark = pytest.mark.trio


def produces(*correlation_ids: int) -> bytes:
    return b"".join(request_frame(PRODUCE, number, b"records") for number in correlation_ids)


async def test_produces_start_before_the_earlier_ones_are_answered(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    assert bench.service.correlation_ids == [1, 2, 3]
    assert peer.has_nothing()


async def test_answers_wait_for_the_earlier_ones(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    first, second, third = bench.service.produces
    third.complete()
    second.complete()
    assert peer.has_nothing()
    first.complete()
    assert await peer.receive_ids(3) == [1, 2, 3]


async def test_any_other_request_waits_until_the_produces_are_answered(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(produces(1, 2) + request_frame(METADATA, 3) + produces(4))
    await settle()
    assert bench.service.correlation_ids == [1, 2]
    bench.service.produces.pop(0).complete()
    await settle()
    assert bench.service.correlation_ids == [1, 2]
    bench.service.produces.pop(0).complete()
    await settle()
    assert bench.service.correlation_ids == [1, 2, 3, 4]
    bench.service.complete_all()
    assert await peer.receive_ids(4) == [1, 2, 3, 4]


@pytest.mark.parametrize("next_key", [PRODUCE, METADATA, FETCH])
async def test_nothing_starts_behind_a_parked_fetch(bench: Bench, next_key: int) -> None:
    peer, _ = bench.connect()
    await peer.send(request_frame(FETCH, 1) + request_frame(next_key, 2))
    await settle()
    assert bench.service.correlation_ids == [1]
    bench.service.fetches[0].answer(b"data")
    await settle()
    assert bench.service.correlation_ids == [1, 2]
    assert await peer.receive_answer() == (1, b"data")


async def test_other_connections_go_on_behind_a_parked_fetch(bench: Bench) -> None:
    waiting, _ = bench.connect()
    other, _ = bench.connect()
    await waiting.send(request_frame(FETCH, 1))
    await settle()
    await other.send(request_frame(METADATA, 2))
    assert await other.receive_answer() == (2, b"")
    assert waiting.has_nothing()


async def test_the_next_request_waits_for_a_handler_that_awaits(bench: Bench) -> None:
    proceed = trio.Event()

    async def slow(request: Request, correlation_id: int) -> Answer:
        await proceed.wait()
        return answer_frame(correlation_id)

    bench.service.handlers[METADATA] = slow
    peer, _ = bench.connect()
    await peer.send(request_frame(METADATA, 1) + produces(2))
    await settle()
    assert bench.service.correlation_ids == [1]
    proceed.set()
    await settle()
    assert bench.service.correlation_ids == [1, 2]
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [1, 2]


async def test_several_finished_produces_leave_with_one_flush(bench: Bench) -> None:
    peer, connection = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    for produce in bench.service.produces:
        produce.complete(flush=False)
    assert peer.has_nothing()
    connection.flush()
    assert await peer.receive_ids(3) == [1, 2, 3]
    bench.service.produces.clear()


# acks=0


async def test_a_produce_without_an_answer_leaves_nothing_behind(bench: Bench) -> None:
    """Behaviour 7."""
    bench.service.handlers[PRODUCE] = lambda request, number: bench.service.hold(request, number, number != 2)
    peer, connection = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [1, 3]
    assert (len(connection.outbox), connection.outbox_bytes) == (0, 0)


async def test_a_produce_that_is_done_at_once_is_answered_at_once(bench: Bench) -> None:
    """All its partitions were refused: no completion will pass by to flush it."""

    def refuse(request: Request, correlation_id: int) -> Answer:
        bench.service.hold(request, correlation_id)
        bench.service.produces.pop().complete(flush=False)
        return None

    bench.service.handlers[PRODUCE] = refuse
    peer, _ = bench.connect()
    await peer.send(produces(1))
    assert await peer.receive_answer() == (1, b"")


async def test_a_produce_that_is_done_at_once_still_waits_for_the_earlier_ones(bench: Bench) -> None:
    def refuse_the_second(request: Request, correlation_id: int) -> Answer:
        bench.service.hold(request, correlation_id)
        if correlation_id == 2:
            bench.service.produces.pop().complete(flush=False)
        return None

    bench.service.handlers[PRODUCE] = refuse_the_second
    peer, _ = bench.connect()
    await peer.send(produces(1, 2))
    await settle()
    assert peer.has_nothing()
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [1, 2]


async def test_a_refused_produce_without_an_answer_closes_the_connection(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows is not looked at any more."""

    def refuse(request: Request, correlation_id: int) -> Answer:
        bench.service.hold(request, correlation_id)
        bench.service.produces[-1].refusal = "refused with acks=0"
        bench.service.produces.pop().complete(flush=False)
        return None

    bench.service.handlers[PRODUCE] = refuse
    peer, _ = bench.connect()
    await peer.send(produces(1, 2) + bytes(100))
    assert await peer.is_closed()
    assert bench.service.correlation_ids == [1]
    assert lines(caplog) == [("WARNING", "Closing connection from local: refused with acks=0")]


async def test_answers_before_a_refused_produce_leave_first(bench: Bench) -> None:
    peer, _ = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    first, second, third = bench.service.produces
    second.refusal = "refused with acks=0"
    third.complete()
    second.complete()
    assert peer.has_nothing()
    first.complete()
    assert await peer.receive_ids(1) == [1]
    assert await peer.is_closed()


async def test_partly_sent_answers_before_a_refused_produce_leave_whole(bench: Bench) -> None:
    peer, connection = bench.connect(send_buffer_bytes=1)
    await peer.send(produces(*range(100)))
    await settle()
    *answered, refused = bench.service.produces
    for produce in answered:
        produce.complete(flush=False, body=bytes(10_000))
    refused.refusal = "refused with acks=0"
    refused.complete()
    assert connection.send_queue
    assert await peer.receive_ids(99) == list(range(99))
    assert await peer.is_closed()


async def test_completions_behind_a_refused_produce_leave_nothing_behind(bench: Bench) -> None:
    peer, connection = bench.connect()
    await peer.send(produces(1, 2))
    await settle()
    bench.service.produces[0].refusal = "refused with acks=0"
    bench.service.complete_all()
    assert await peer.is_closed()
    assert (len(connection.outbox), connection.outbox_bytes) == (0, 0)


async def test_a_wrong_frame_and_a_refused_produce_before_it_are_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    peer, _ = bench.connect()
    await peer.send(produces(1) + bytes(100))
    await settle()
    bench.service.produces[0].refusal = "refused with acks=0"
    bench.service.complete_all()
    assert await peer.is_closed()
    assert lines(caplog) == [
        ("WARNING", "Closing connection from local: frame of 0 bytes cannot hold a request header")
    ]


# Bounds of the pipeline


async def test_so_many_produces_are_in_flight_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PIPELINED_REQUESTS_MAX", 3)
    peer, _ = bench.connect()
    await peer.send(produces(*range(10)))
    await settle()
    assert bench.service.correlation_ids == [0, 1, 2]
    bench.service.produces.pop(0).complete()
    await settle()
    assert bench.service.correlation_ids == [0, 1, 2, 3]


async def test_so_many_bytes_are_in_flight_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PIPELINED_BYTES_MAX", 2 * len(produces(0)) - 10)
    peer, connection = bench.connect()
    await peer.send(produces(*range(5)))
    await settle()
    assert bench.service.correlation_ids == [0, 1]
    assert connection.outbox_bytes == 2 * (len(produces(0)) - 4)
    bench.service.produces.pop(0).complete()
    await settle()
    assert bench.service.correlation_ids == [0, 1, 2]


async def test_a_full_pipeline_goes_on_when_an_unanswered_produce_leaves_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """acks=0: nothing is sent that could wake the receiver."""
    monkeypatch.setattr(connection_module, "PIPELINED_REQUESTS_MAX", 2)
    bench.service.handlers[PRODUCE] = lambda request, number: bench.service.hold(request, number, False)
    peer, _ = bench.connect()
    await peer.send(produces(1, 2, 3))
    await settle()
    bench.service.produces.pop(0).complete()
    await settle()
    assert bench.service.correlation_ids == [1, 2, 3]


async def test_who_reads_no_answers_is_not_read_from(bench: Bench) -> None:
    """Else the answers of a producer that never reads would pile up in memory."""
    peer, connection = bench.connect(send_buffer_bytes=1)
    sent = 0
    while not connection.send_queue:
        await peer.send(produces(*range(sent, sent + 100)))
        sent += 100
        await settle()
        bench.service.complete_all()
    await peer.send(produces(sent, sent + 1))
    await settle()
    assert len(bench.service.seen) == sent
    assert await peer.receive_ids(sent) == list(range(sent))
    await settle()
    bench.service.complete_all()
    assert await peer.receive_ids(2) == [sent, sent + 1]


async def test_one_connection_with_many_requests_leaves_others_their_turn(bench: Bench) -> None:
    greedy, _ = bench.connect()
    other, _ = bench.connect()

    def begin(request: Request, correlation_id: int) -> Answer:
        other.sock.send(request_frame(METADATA, 5000))
        return answer_frame(correlation_id)

    bench.service.handlers[FETCH] = begin
    await greedy.send(
        request_frame(FETCH, 0) + b"".join(request_frame(PRODUCE, number) for number in range(1000))
    )
    await settle()
    assert bench.service.correlation_ids.index(5000) < 500

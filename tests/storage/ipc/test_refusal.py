"""What a client is told about a refused batch, within the room that the batch leaves."""
from __future__ import annotations

import pytest

from storage.ipc.refusal import UNEXPLAINED, pack_refusal, unpack_refusal

MESSAGE = "the batch was refused"
ERRORS = [(1, "too early"), (3, "too late"), (70_000, "too late")]


def round_trip(room_bytes: int) -> tuple[str | None, list[tuple[int, str]]]:
    packed = pack_refusal(MESSAGE, ERRORS, room_bytes)
    assert len(packed) <= room_bytes
    return unpack_refusal(memoryview(packed))


def test_everything_is_told_when_there_is_room() -> None:
    assert round_trip(1000) == (MESSAGE, ERRORS)


def test_the_records_sentences_go_first() -> None:
    assert round_trip(40) == (MESSAGE, [(index, MESSAGE) for index, _ in ERRORS])


def test_then_the_batch_s_sentence_goes() -> None:
    assert round_trip(20) == (UNEXPLAINED, [(index, UNEXPLAINED) for index, _ in ERRORS])


def test_then_the_last_records_go() -> None:
    message, errors = unpack_refusal(memoryview(pack_refusal("", [(70_000, "x")] * 100, 61)))
    assert (message, errors) == (UNEXPLAINED, [(70_000, UNEXPLAINED)] * 10)


@pytest.mark.parametrize("room_bytes", range(8))
def test_no_room_says_nothing_of_records(room_bytes: int) -> None:
    assert round_trip(room_bytes) == (None, [])


def test_a_refusal_without_offending_records_has_a_sentence_only() -> None:
    assert unpack_refusal(memoryview(pack_refusal(MESSAGE, [], 100))) == (MESSAGE, [])

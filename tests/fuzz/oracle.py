"""What must come of a stream of bytes, by the generic codec and the rules of the protocol alone.

Independent of what is tested: the receiving, the cutting into frames, the hand-tuned parsers, the handlers.
"""

from __future__ import annotations

import struct
from enum import Enum, auto
from typing import NamedTuple

from broker.apis.ledger import ADVERTISED
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError
from broker.protocol.frames import decode_request, parse_request_header
from broker.protocol.hot_fetch import parse_fetch_request

BARE_REQUEST_BYTES_MAX = 4 << 20
FIRST_FETCH_WITH_TAGS = 12
"""From here on the hand-tuned parser skips tagged fields that the broker does not use (the cluster id), where
the generic codec looks into them; only there it is its own judge."""


class Fate(Enum):
    """ANSWER: with its correlation id. SILENCE: nothing. CLOSE: the connection ends here, with a line.
    SILENCE_OR_CLOSE: acks=0, where an error closes."""

    ANSWER = auto()
    SILENCE = auto()
    CLOSE = auto()
    SILENCE_OR_CLOSE = auto()


class Verdict(NamedTuple):
    fate: Fate
    correlation_id: int = 0


def judge(stream: bytes, request_bytes_max: int) -> list[Verdict]:
    """One verdict for each frame up to the first CLOSE; a frame that is not whole yet has none."""
    verdicts: list[Verdict] = []
    position = 0
    while len(stream) - position >= 4:
        (size,) = struct.unpack_from(">i", stream, position)
        start, end = position + 4, position + 4 + size
        if not 10 <= size <= request_bytes_max or _is_bare_and_large(stream[start:], size):
            return [*verdicts, Verdict(Fate.CLOSE)]
        if end > len(stream):
            break
        verdicts.append(_judge_frame(memoryview(stream)[start:end]))
        if verdicts[-1].fate is Fate.CLOSE:
            break
        position = end
    return verdicts


def _is_bare_and_large(rest: bytes, size: int) -> bool:
    return size > BARE_REQUEST_BYTES_MAX and len(rest) >= 2 and rest[:2] != b"\0\0"


def _judge_frame(frame: memoryview) -> Verdict:
    try:
        header = parse_request_header(frame, 0, len(frame))
        key, version = header.api_key, header.api_version
        if key == ApiKey.API_VERSIONS and version not in range(ADVERTISED[ApiKey.API_VERSIONS][1] + 1):
            return Verdict(Fate.ANSWER, header.correlation_id)
        if key not in ADVERTISED:
            return Verdict(Fate.CLOSE)
        if key == ApiKey.FETCH and version >= FIRST_FETCH_WITH_TAGS:
            parse_fetch_request(frame, header.body_position, len(frame), version)
            return Verdict(Fate.ANSWER, header.correlation_id)
        message = decode_request(key, version, frame, header.body_position, len(frame))
    except ProtocolError:
        return Verdict(Fate.CLOSE)
    if key == ApiKey.PRODUCE and message.acks == 0:
        is_empty = not any(topic.partition_data for topic in message.topic_data)
        return Verdict(Fate.SILENCE if is_empty else Fate.SILENCE_OR_CLOSE)
    return Verdict(Fate.ANSWER, header.correlation_id)


def check(
    verdicts: list[Verdict], answered: list[int], was_closed: bool, may_be_cut: bool = False
) -> None:
    """AssertionError when the broker did something else.

    may_be_cut: TCP resets a connection that is closed with bytes unread, and then drops what was under way.
    """
    position = 0
    may_be_closed = may_be_cut
    for verdict in verdicts:
        if verdict.fate is Fate.CLOSE:
            assert was_closed, f"not closed for {verdict}"
        elif verdict.fate is Fate.SILENCE_OR_CLOSE:
            may_be_closed = True
        elif verdict.fate is Fate.ANSWER:
            if position == len(answered) and may_be_closed and was_closed:
                return
            assert answered[position : position + 1] == [verdict.correlation_id], "an answer is missing or wrong"
            position += 1
    assert answered[position:] == [], "answers to nothing"
    must_close = bool(verdicts) and verdicts[-1].fate is Fate.CLOSE
    may_be_closed = any(verdict.fate is Fate.SILENCE_OR_CLOSE for verdict in verdicts)
    assert not was_closed or must_close or may_be_closed, "closed for no reason"

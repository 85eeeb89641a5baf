"""Frames and headers. Items are those of Kafka's subtle behaviours, section A."""
from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import FrameTooLargeError, MalformedError, ProtocolError, UnsupportedVersionError
from broker.protocol.frames import (
    RequestHeader,
    check_frame_size,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    parse_request_header,
    split_frames,
)
from broker.protocol.messages import message_class, request_class, response_class
from tests.broker.protocol.values import random_message

KEYS_AND_VERSIONS = [(int(key), version) for key, spec in API_SPECS.items() if spec.zk_broker
                     for version in range(spec.min_version, spec.max_version + 1)]


def sized(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(body)) + body for body in bodies)


# --- splitting ----------------------------------------------------------------------------------------

def test_complete_frames_are_found_and_the_rest_is_counted() -> None:
    data = sized(b"abc", b"", b"defgh")[:-2]
    assert split_frames(data, 0, len(data), 100) == ([(4, 7), (11, 11)], 11, 2)


@pytest.mark.parametrize(("data", "missing"), [(b"", 4), (b"\0", 3), (b"\0\0\0", 1), (b"\0\0\0\5", 5)])
def test_missing_bytes_of_the_prefix_then_of_the_frame(data: bytes, missing: int) -> None:
    assert split_frames(data, 0, len(data), 100) == ([], 0, missing)


def test_only_the_given_range_is_looked_at() -> None:
    data = b"junk" + sized(b"ab") + sized(b"cd")
    assert split_frames(memoryview(data), 4, 10, 100) == ([(8, 10)], 10, 4)


@pytest.mark.parametrize(("size", "text"), [
    (-1, "frame size -1 is negative"), (-(1 << 31), "frame size -2147483648 is negative"),
    (101, "frame size 101 is above the limit of 100 bytes")])
def test_item_4_a_bad_size_names_the_value_and_the_limit(size: int, text: str) -> None:
    with pytest.raises(FrameTooLargeError, match=text):
        split_frames(struct.pack(">i", size), 0, 4, 100)
    with pytest.raises(FrameTooLargeError, match=text):
        check_frame_size(size, 100)


def test_frames_before_a_bad_size_are_still_answered() -> None:
    data = sized(b"ok") + struct.pack(">i", -1)
    frames = split_frames(data, 0, len(data), 100)
    assert frames.frames == [(4, 6)]
    with pytest.raises(FrameTooLargeError):
        split_frames(data, frames.position, len(data), 100)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    data = sized(b"x" * 100)
    assert split_frames(data, 0, len(data), 100).frames == [(4, 104)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 300), max_size=8))
def test_any_fragmentation_gives_the_same_frames(bodies: list[bytes], cuts: list[int]) -> None:
    data = sized(*bodies)
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    found: list[bytes] = []
    position = 0
    for end in ends:
        result = split_frames(data, position, end, 100)
        found += [data[start:stop] for start, stop in result.frames]
        position = result.position
        assert result.missing > 0
    assert found == bodies
    assert position == len(data)


# --- request headers ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("key", "version"), KEYS_AND_VERSIONS)
def test_requests_and_responses_survive_a_round_trip(key: int, version: int) -> None:
    request = random_message(request_class(key).MESSAGE.name, version, seed=1)
    frame = encode_request(key, version, 77, "client-1", request)
    assert split_frames(frame, 0, len(frame), 1 << 20).frames == [(4, len(frame))]
    header = parse_request_header(memoryview(frame), 4, len(frame))
    has_client_id = (key, version) != (ApiKey.CONTROLLED_SHUTDOWN, 0)
    assert header[:4] == (key, version, 77, "client-1" if has_client_id else None)
    assert decode_request(key, version, memoryview(frame), header.body_position, len(frame)) == request
    response = random_message(response_class(key).MESSAGE.name, version, seed=1)
    frame = encode_response(key, version, 78, response)
    assert decode_response(key, version, memoryview(frame), 4, len(frame)) == (78, response)


def test_the_bytes_of_headers() -> None:
    metadata = message_class("MetadataRequest")(topics=None)
    assert encode_request(3, 1, 5, "ab", metadata) == sized(b"\0\3\0\1\0\0\0\5\0\2ab" + b"\xff" * 4)
    assert encode_request(3, 1, 5, None, metadata) == sized(b"\0\3\0\1\0\0\0\5\xff\xff" + b"\xff" * 4)
    assert encode_request(3, 9, 5, "ab", metadata)[4:17] == b"\0\3\0\x09\0\0\0\5\0\2ab\0"
    shutdown = message_class("ControlledShutdownRequest")(broker_id=3)
    assert encode_request(7, 0, 5, "ab", shutdown) == sized(b"\0\7\0\0\0\0\0\5" + b"\0\0\0\3")
    heartbeat = message_class("HeartbeatResponse")()
    assert encode_response(12, 0, 5, heartbeat) == sized(b"\0\0\0\5" + b"\0\0")
    assert encode_response(12, 4, 5, heartbeat) == sized(b"\0\0\0\5\0" + b"\0\0\0\0\0\0\0")


def test_item_1_an_api_versions_response_has_header_v0_in_flexible_versions_too() -> None:
    frame = encode_response(ApiKey.API_VERSIONS, 3, 5, message_class("ApiVersionsResponse")(error_code=35))
    assert frame[4:10] == b"\0\0\0\5" + b"\0\x23"


def test_tagged_fields_of_a_request_header_are_skipped() -> None:
    frame = b"\0\3\0\x09\0\0\0\5\0\1c" + b"\1\0\2zz" + b"body"
    assert parse_request_header(frame, 0, len(frame)) == RequestHeader(3, 9, 5, "c", len(frame) - 4)


@pytest.mark.parametrize("version", [5, 99, 32767])
def test_item_2_the_header_of_api_versions_parses_in_any_version(version: int) -> None:
    frame = struct.pack(">hhih", 18, version, 7, 1) + b"c\0" + b"anything"
    assert parse_request_header(frame, 0, len(frame)) == RequestHeader(18, version, 7, "c", 12)


@pytest.mark.parametrize(("key", "version", "text"), [
    (3, 13, "Metadata has versions 0 to 12, not 13"), (3, -1, "not -1"), (88, 0, "API key 88 is unknown"),
    (-1, 0, "API key -1 is unknown"), (52, 0, "API key 52 is unknown"), (500, 3, "API key 500")])
def test_item_4_other_unknown_keys_and_versions_are_refused(key: int, version: int, text: str) -> None:
    frame = struct.pack(">hhih", key, version, 7, -1) + bytes(20)
    with pytest.raises(UnsupportedVersionError, match=text):
        parse_request_header(frame, 0, len(frame))


@pytest.mark.parametrize(("key", "version"), [(3, 1), (3, 9), (18, 3), (18, 99)])
def test_a_header_cut_at_any_byte_is_malformed(key: int, version: int) -> None:
    header = struct.pack(">hhih", key, version, 7, 8) + b"client-1" + (b"" if version == 1 else b"\1\0\2zz")
    buffer = memoryview(header + bytes(50))
    assert parse_request_header(buffer, 0, len(header)).body_position == len(header)
    for end in range(len(header)):
        with pytest.raises(MalformedError):
            parse_request_header(buffer, 0, end)
        with pytest.raises(MalformedError):
            parse_request_header(buffer[:end], 0, end)


def test_a_client_id_that_is_no_utf_8_is_malformed() -> None:
    frame = struct.pack(">hhih", 3, 1, 7, 2) + b"\xff\xfe" + bytes(20)
    with pytest.raises(MalformedError, match="client id is no UTF-8"):
        parse_request_header(frame, 0, len(frame))


def test_bytes_after_a_request_are_tolerated() -> None:
    request = message_class("HeartbeatRequest")(group_id="g")
    frame = encode_request(12, 4, 5, "c", request) + b"padding"
    header = parse_request_header(frame, 4, len(frame))
    assert decode_request(12, 4, frame, header.body_position, len(frame)) == request


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(KEYS_AND_VERSIONS) | st.none())
def test_any_bytes_are_a_request_or_a_protocol_error(data: bytes, start: tuple[int, int] | None) -> None:
    if start is not None:
        data = struct.pack(">hhihc", *start, 1, 1, b"c") + data
    try:
        header = parse_request_header(memoryview(data), 0, len(data))
        decode_request(header.api_key, header.api_version, memoryview(data), header.body_position, len(data))
    except ProtocolError:
        return


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(KEYS_AND_VERSIONS))
def test_any_bytes_are_a_response_or_a_protocol_error(data: bytes, api: tuple[int, int]) -> None:
    try:
        decode_response(*api, memoryview(data), 0, len(data))
    except ProtocolError:
        return

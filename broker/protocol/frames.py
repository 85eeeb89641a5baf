"""Frames and headers: what stands around a message on a connection.

A frame is an int32 size and that many bytes: a request header and body, or a response header and body.
Kafka's order on a connection is strict, and the correlation id is all that ties an answer to its request.
Everything here is arithmetic on buffers; the sockets are in `broker.network`.

Runs in: every process. No state.
"""
from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from broker.protocol.api_keys import API_SPECS, ApiKey, request_header_version, response_header_version
from broker.protocol.codec import decode, encode_into
from broker.protocol.errors import FrameTooLargeError, MalformedError, UnsupportedVersionError
from broker.protocol.messages import Message, request_class, response_class
from broker.protocol.primitives import INT32, Buffer, decode_name, skip_tagged_fields

SIZE_PREFIX_BYTES = 4
REQUEST_SIZE_BYTES_MIN = 10  # header v1 without client id; ControlledShutdown v0 has 8 and a body of 4

_HEADER_V0 = Struct(">hhi")
_HEADER_V1 = Struct(">hhih")  # with the length of the client id
_unpack_header_v1 = _HEADER_V1.unpack_from
_new_tuple = tuple.__new__


class RequestHeader(NamedTuple):
    """`body_position` is where the request's own fields begin."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_position: int


class Frames(NamedTuple):
    """`frames`: (start, end) of each complete frame, size prefix excluded. `position`: where the first
    incomplete one begins, its prefix included. `missing`: bytes that must follow before it, or its prefix,
    is complete; at least 1, and the whole of its rest as soon as its size is known."""

    frames: list[tuple[int, int]]
    position: int
    missing: int


def check_frame_size(size: int, size_max: int) -> None:
    """Refuse a size that is negative or above the limit (`socket.request.max.bytes`)."""
    if size < 0:
        raise FrameTooLargeError(f"frame size {size} is negative")
    if size > size_max:
        raise FrameTooLargeError(f"frame size {size} is above the limit of {size_max} bytes")


def split_frames(buffer: Buffer, position: int, end: int, size_max: int) -> Frames:
    """Find the complete frames of `buffer[position:end]`.

    FrameTooLargeError only when the bad frame comes first: those before it are still to be answered.
    """
    frames: list[tuple[int, int]] = []
    while end - position >= SIZE_PREFIX_BYTES:
        size, = INT32.unpack_from(buffer, position)
        if not 0 <= size <= size_max:
            if frames:
                return Frames(frames, position, 1)
            check_frame_size(size, size_max)
        start = position + SIZE_PREFIX_BYTES
        if size > end - start:
            return Frames(frames, position, size - (end - start))
        position = start + size
        frames.append((start, position))
    return Frames(frames, position, SIZE_PREFIX_BYTES - (end - position))


def _check_request_version(key: int, version: int) -> None:
    spec = API_SPECS.get(key)
    if spec is None or not spec.zk_broker:
        raise UnsupportedVersionError(f"API key {key} is unknown (version {version})")
    if not spec.min_version <= version <= spec.max_version:
        raise UnsupportedVersionError(
            f"{spec.name} has versions {spec.min_version} to {spec.max_version}, not {version}")


# (key, version) -> header version, for every request that can be served: one look-up per request.
_HEADER_VERSIONS = {
    (key, version): request_header_version(key, version)
    for key, spec in API_SPECS.items() if spec.zk_broker
    for version in range(spec.min_version, spec.max_version + 1)
}


def _header_version(key: int, version: int) -> int:
    """Header of a request outside the table. ApiVersions is answered in any version (error 35, v0)."""
    if key != ApiKey.API_VERSIONS:
        _check_request_version(key, version)
    return request_header_version(key, version)


def parse_request_header(buffer: Buffer, position: int, end: int) -> RequestHeader:
    """Read the header of the request in `buffer[position:end]`.

    UnsupportedVersionError for a key or version that does not exist, except for ApiVersions: its header
    always parses (only the version decides that its body cannot be read). MalformedError when cut short.
    """
    if end - position < REQUEST_SIZE_BYTES_MIN:
        raise MalformedError(f"a request of {end - position} bytes is too short for its header")
    try:
        key, version, correlation_id, size = _unpack_header_v1(buffer, position)
        header_version = _HEADER_VERSIONS.get((key, version))
        if header_version is None:
            header_version = _header_version(key, version)
        if header_version == 0:
            return RequestHeader(key, version, correlation_id, None, position + 8)
        position += 10
        client_id = None
        if size >= 0:
            client_id = decode_name(bytes(buffer[position:position + size]))
            position += size
        if header_version == 2:
            position = skip_tagged_fields(buffer, position, end) if buffer[position] else position + 1
    except (StructError, IndexError) as error:
        raise MalformedError("request header ends too early") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"client id is no UTF-8: {error.reason}") from error
    if position > end:
        raise MalformedError("request header ends beyond the frame")
    return _new_tuple(RequestHeader, (key, version, correlation_id, client_id, position))


def _frame(pieces: list[Any]) -> bytes:
    """Join the pieces behind their size; `pieces[0]` is kept free for it."""
    pieces[0] = INT32.pack(sum(map(len, pieces)))
    return b"".join(pieces)


def encode_request(api_key: int, version: int, correlation_id: int, client_id: str | None,
                   message: Message) -> bytes:
    """A whole frame: size, the header that this version wants, the message."""
    header_version = request_header_version(api_key, version)
    if header_version == 0:
        header = _HEADER_V0.pack(api_key, version, correlation_id)
    else:
        raw = b"" if client_id is None else client_id.encode()
        size = -1 if client_id is None else len(raw)
        header = _HEADER_V1.pack(api_key, version, correlation_id, size) + raw
        if header_version == 2:
            header += b"\0"
    pieces: list[Any] = [b"", header]
    encode_into(message, version, pieces.append)
    return _frame(pieces)


def encode_response(api_key: int, version: int, correlation_id: int, message: Message) -> bytes:
    """A whole frame: size, the header that this version wants, the message."""
    header = INT32.pack(correlation_id)
    if response_header_version(api_key, version):
        header += b"\0"
    pieces: list[Any] = [b"", header]
    encode_into(message, version, pieces.append)
    return _frame(pieces)


def decode_request(api_key: int, version: int, buffer: Buffer, position: int, end: int) -> Any:
    """The request's message, from `RequestHeader.body_position` to the end of the frame.

    Bytes left over are ignored, as Kafka does.
    """
    message, _ = decode(request_class(api_key), buffer, version, position, end)
    return message


def decode_response(api_key: int, version: int, buffer: Buffer, position: int, end: int) -> tuple[int, Any]:
    """(correlation id, message) of the response in `buffer[position:end]`, size prefix excluded."""
    if end - position < INT32.size:
        raise MalformedError(f"a response of {end - position} bytes is too short for its header")
    correlation_id, = INT32.unpack_from(buffer, position)
    position += INT32.size
    try:
        if response_header_version(api_key, version):
            position = skip_tagged_fields(buffer, position, end)
    except IndexError as error:
        raise MalformedError("response header ends too early") from error
    message, _ = decode(response_class(api_key), buffer, version, position, end)
    return correlation_id, message

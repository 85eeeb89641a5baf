"""Encode and decode any message in any version.

`decode` raises nothing but `ProtocolError` whatever the bytes are, and its work and memory are bounded by
the bytes given. Fields of type bytes and records come out as slices of the buffer: no copy from a
memoryview, which must then outlive the message. Bytes after the message are not looked at (Kafka tolerates
padded requests): the returned position says where it ended.

Runs in: every process. The compiled functions are cached on the message classes.
"""
from __future__ import annotations

from collections.abc import Iterable
from struct import error as StructError
from typing import Any

from broker.protocol.compile_decode import decoder
from broker.protocol.compile_encode import Put, encoder
from broker.protocol.errors import MalformedError, UnsupportedVersionError
from broker.protocol.messages import Message, request_class, response_class
from broker.protocol.primitives import Buffer


def _check_version(cls: type[Message], version: int) -> None:
    versions = cls.MESSAGE.versions
    if not versions.has(version):
        raise UnsupportedVersionError(
            f"{cls.__qualname__} has versions {versions.lowest} to {versions.highest}, not {version}")


def encode_into(message: Message, version: int, put: Put) -> None:
    """Hand the message's bytes to `put` in pieces (append of a list, say), for callers that frame it."""
    cls = message.__class__
    encode_many = cls.ENCODERS.get(version)
    if encode_many is None:
        _check_version(cls, version)
        encode_many = encoder(cls, version)
    encode_many((message,), put)


def encode(message: Message, version: int) -> bytes:
    """The message's bytes. UnsupportedVersionError when this version cannot carry what the message holds."""
    pieces: list[Any] = []
    encode_into(message, version, pieces.append)
    return b"".join(pieces)


def compile_ahead(requests: Iterable[tuple[int, int]]) -> None:
    """Compile what a server needs for these (API key, version): about 1 ms each, else paid by the first
    request of its kind, on the loop."""
    for api_key, version in requests:
        decoder(request_class(api_key), version)
        encoder(response_class(api_key), version)


def decode(cls: Any, buffer: Buffer, version: int, position: int = 0,
           end: int | None = None) -> tuple[Any, int]:
    """(message, position after it), reading `buffer[position:end]`.

    MalformedError for anything wrong on the wire, UnsupportedVersionError for a version that does not exist.
    """
    decode_many = cls.DECODERS.get(version)
    if decode_many is None:
        _check_version(cls, version)
        decode_many = decoder(cls, version)
    size = len(buffer)
    if end is None:
        end = size
    elif end < size:
        buffer = buffer[:end]
    try:
        (message,), position = decode_many(buffer, position, end, 1)
    except (StructError, IndexError) as error:
        raise MalformedError(f"{cls.__qualname__} in version {version} ends too early") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"{cls.__qualname__} in version {version} holds a string that is no UTF-8: "
                             f"{error.reason}") from error
    return message, position

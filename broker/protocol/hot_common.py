"""What the hand-tuned modules for Produce and Fetch share: refusals, strings with their length, endpoints.

Runs in: front end. No state but the bounded caches of names.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

from broker.protocol.compile_encode import encoder
from broker.protocol.errors import MalformedError
from broker.protocol.messages import message_class
from broker.protocol.primitives import (
    INT16,
    NAME_COUNT_MAX,
    NAME_SIZE_MAX,
    STRING_SIZE_BYTES_MAX,
    encode_uvarint,
)

NodeEndpoint = tuple[int, str, int, str | None]  # node id, host, port, rack


def refuse_count(what: str, count: int) -> NoReturn:
    raise MalformedError(f"{count} {what} announced: null, or more than the frame can hold")


def refuse_string(size: int) -> NoReturn:
    raise MalformedError("a string is null but must not be" if size < 0 else
                         f"a string has {size} bytes, more than {STRING_SIZE_BYTES_MAX}")


def _classic_string(text: str) -> bytes:
    raw = text.encode()
    return INT16.pack(len(raw)) + raw


def _compact_string(text: str) -> bytes:
    raw = text.encode()
    return encode_uvarint(len(raw) + 1) + raw


_remembered_classic_string = lru_cache(NAME_COUNT_MAX)(_classic_string)
_remembered_compact_string = lru_cache(NAME_COUNT_MAX)(_compact_string)


def classic_string(name: str) -> bytes:
    """A name with its int16 length, for versions that are not flexible."""
    return _remembered_classic_string(name) if len(name) <= NAME_SIZE_MAX else _classic_string(name)


def compact_string(name: str) -> bytes:
    """A name with its varint length (one more than its size), for flexible versions."""
    return _remembered_compact_string(name) if len(name) <= NAME_SIZE_MAX else _compact_string(name)


def encode_endpoints_section(message_name: str, version: int, endpoints: Sequence[NodeEndpoint]) -> bytes:
    """The tagged fields that end a Produce or Fetch response: where the hinted leaders are, as tag 0."""
    node_endpoint = message_class(message_name).NodeEndpoint
    pieces: list[Any] = [encode_uvarint(len(endpoints) + 1)]
    encoder(node_endpoint, version)(
        [node_endpoint(node_id=node_id, host=host, port=port, rack=rack)
         for node_id, host, port, rack in endpoints], pieces.append)
    data = b"".join(pieces)
    return b"\1\0" + encode_uvarint(len(data)) + data

"""Whole requests over a peer, for what the fuzz does beside fuzzing."""

from __future__ import annotations

from typing import Any

from broker.protocol.frames import decode_response, encode_request
from tests.broker.network.harness import Peer


async def call(peer: Peer, api_key: int, version: int, message: Any, correlation_id: int = 1) -> Any:
    """Send one request, return its answer."""
    await peer.send(encode_request(api_key, version, correlation_id, "fuzz", message))
    size = int.from_bytes(await peer.receive(4), "big")
    frame = memoryview(await peer.receive(size))
    answered, answer = decode_response(api_key, version, frame, 0, len(frame))
    assert answered == correlation_id
    return answer

"""Why an append was refused, written where the refused batch was: the one format for both sides. PURE.

The room is what the batch itself took, and a batch can be small: what does not fit is left out, the records'
sentences first, then the batch's own, then the last of the offending records.
Runs in: storage (writes), front end (reads). No state.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgpack

RecordErrors = list[tuple[int, str]]

UNEXPLAINED: Final = "the record was refused for the reason that the batch's error code names"

# A msgpack array of three: its own byte, two empty members, five bytes for the length of the third.
_OVERHEAD_BYTES: Final = 8
_INDEX_BYTES_MAX: Final = 5


def pack_refusal(message: str, record_errors: Sequence[tuple[int, str]], room_bytes: int) -> bytes:
    """At most `room_bytes`; empty when there is room for nothing."""
    indices = [index for index, _ in record_errors]
    texts = [text for _, text in record_errors]
    fitting = max(room_bytes - _OVERHEAD_BYTES, 0) // _INDEX_BYTES_MAX
    for content in ((message, texts, indices), (message, [], indices), ("", [], indices),
                    ("", [], indices[:fitting])):  # fmt: skip
        packed: bytes = msgpack.packb(content)
        if len(packed) <= room_bytes:
            return packed
    return b""


def unpack_refusal(packed: memoryview) -> tuple[str | None, RecordErrors]:
    """(sentence about the batch or None, (index in the batch, sentence) of offending records)."""
    if not packed:
        return None, []
    message, texts, indices = msgpack.unpackb(packed)
    if not texts:
        texts = [message or UNEXPLAINED] * len(indices)
    return message or (UNEXPLAINED if indices else None), list(zip(indices, texts, strict=True))

"""Where a group or a transactional id lives: the partition of its coordinator's topic.

Java's String.hashCode is part of the protocol between brokers: every broker of a cluster, of either kind, has to
name the same partition for the same id (behaviour 65). PURE.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_SIGN = 1 << 31


def java_string_hash(text: str) -> int:
    """String.hashCode: over UTF-16 units, as a signed 32-bit number."""
    encoded = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for unit in struct.unpack(f">{len(encoded) // 2}H", encoded):
        value = (31 * value + unit) & _MASK
    return value - (1 << 32) if value & _SIGN else value


def partition_for(key: str, partition_count: int) -> int:
    """As Kafka's Utils.abs: the smallest number has no positive and becomes 0."""
    value = java_string_hash(key)
    return (0 if value == -_SIGN else abs(value)) % partition_count

"""Fetch responses: everything around the record bytes, without the generic codec.

The frame comes out as byte strings with partition indices between them: the caller sends the former with
`send` and, where an index stands, that partition's records with `sendfile`. The frame's size counts the
records. A partition without diverging epoch or leader hint is packed by one fused `struct.Struct`; the
result equals the generic codec's bytes in every version (tested).

Runs in: front end. Encoders are made once per version and never change.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any, NamedTuple

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.compile_encode import Put, put_tagged_fields
from broker.protocol.errors import UnsupportedVersionError
from broker.protocol.hot_common import (
    NodeEndpoint,
    classic_string,
    compact_string,
    encode_endpoints_section,
)
from broker.protocol.primitives import INT32, encode_uvarint

VERSION_MAX = API_SPECS[ApiKey.FETCH].max_version
FLEXIBLE_FROM = 12
TOPIC_ID_FROM = 13  # topics are named by id
ENDPOINTS_FROM = 16  # node endpoints beside the leader hints (KIP-951)
_RESPONSE = "FetchResponse"


class PartitionResult(NamedTuple):
    """One partition of a response. `records_size`: bytes that the caller will send, 0 for none, -1 for null.

    `aborted_transactions`: [(producer id, first offset)], or None when the isolation level is
    read_uncommitted. `diverging_epoch`: (epoch, end offset); `current_leader`: (id, epoch).
    """

    partition: int
    error_code: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    records_size: int
    aborted_transactions: Sequence[tuple[int, int]] | None = None
    preferred_read_replica: int = -1
    diverging_epoch: tuple[int, int] | None = None
    current_leader: tuple[int, int] | None = None


# topic name (used below version 13), topic id (used from 13 on), partitions
TopicResult = tuple[str | None, bytes | None, Sequence[PartitionResult]]

_pack_int32 = INT32.pack
_pack_aborted = Struct(">qq").pack
_pack_head = Struct(">iihi").pack  # correlation id, throttle, error, session id
_pack_flexible_head = Struct(">iBihi").pack  # a count of tagged fields after the correlation id
_pack_diverging_epoch = Struct(">iqB").pack  # epoch, end offset, no tagged fields
_pack_current_leader = Struct(">iiB").pack  # id, epoch, no tagged fields
_DIVERGING_EPOCH_TAG = 0
_CURRENT_LEADER_TAG = 1
_MINUS_ONE = b"\xff\xff\xff\xff"
_NO_TAGS = b"\0"


class FetchResponseEncoder:
    """Encodes responses of one version; get one with `fetch_response_encoder(version)`.

    What a version lacks is left out (last stable and log start offset, aborted transactions, leader hints,
    node endpoints). A session id below version 7 and a preferred read replica below 11 raise
    UnsupportedVersionError: without them the client would misread the response.
    """

    def __init__(self, version: int) -> None:
        if not 0 <= version <= VERSION_MAX:
            raise UnsupportedVersionError(f"Fetch has versions 0 to {VERSION_MAX}, not {version}")
        self.version = version
        self.flexible = version >= FLEXIBLE_FROM
        # partition, error, high watermark[, last stable][, log start]
        self._field_count = 3 if version < 4 else 4 if version < 5 else 5
        self._pack_fields = Struct(">ihqqq"[:self._field_count + 1]).pack
        self._count = _compact_count if self.flexible else _pack_int32
        self._no_aborted = b"" if version < 4 else _MINUS_ONE if not self.flexible else b"\0"

    def encode(
        self, correlation_id: int, throttle_ms: int, error_code: int, session_id: int,
        topics: Sequence[TopicResult], node_endpoints: Sequence[NodeEndpoint] = (),
    ) -> list[bytes | int]:
        """The frame, size prefix included, as bytes and indices.

        An index counts the partitions of all topics in order; it stands where the records of that partition
        go, and only partitions with records have one.
        """
        version, flexible, count = self.version, self.flexible, self._count
        parts: list[bytes | int] = []
        pieces: list[bytes] = [self._head(correlation_id, throttle_ms, error_code, session_id),
                               count(len(topics))]
        put = pieces.append
        size = index = 0
        for name, topic_id, partitions in topics:
            put(_topic_key(version, name, topic_id))
            put(count(len(partitions)))
            for result in partitions:
                self._put_partition(result, put)
                records_size = result[5]
                if records_size > 0:
                    chunk = b"".join(pieces)
                    size += len(chunk) + records_size
                    parts += (chunk, index)
                    pieces.clear()
                if flexible:
                    has_tags = result[8] is not None or result[9] is not None
                    put(_partition_tags(result) if has_tags else _NO_TAGS)
                index += 1
            if flexible:
                put(_NO_TAGS)
        if flexible:
            has_endpoints = node_endpoints and version >= ENDPOINTS_FROM
            put(encode_endpoints_section(_RESPONSE, version, node_endpoints) if has_endpoints else _NO_TAGS)
        if pieces:
            chunk = b"".join(pieces)
            size += len(chunk)
            parts.append(chunk)
        parts[0] = _pack_int32(size) + parts[0]  # type: ignore[operator]  # the first part is a chunk
        return parts

    def _head(self, correlation_id: int, throttle_ms: int, error_code: int, session_id: int) -> bytes:
        version = self.version
        if self.flexible:
            return _pack_flexible_head(correlation_id, 0, throttle_ms, error_code, session_id)
        if version >= 7:
            return _pack_head(correlation_id, throttle_ms, error_code, session_id)
        if session_id:
            raise UnsupportedVersionError(f"Fetch version {version} has no sessions (session {session_id})")
        head = _pack_int32(correlation_id)
        return head + _pack_int32(throttle_ms) if version >= 1 else head

    def _put_partition(self, result: PartitionResult, put: Put) -> None:
        """Everything up to the records, their length included."""
        put(self._pack_fields(*result[:self._field_count]))
        aborted, preferred_read_replica, records_size = result[6], result[7], result[5]
        put(self._no_aborted if aborted is None else self._aborted(aborted))
        if self.version >= 11:
            put(_MINUS_ONE if preferred_read_replica == -1 else _pack_int32(preferred_read_replica))
        elif preferred_read_replica != -1:
            raise UnsupportedVersionError(f"Fetch version {self.version} has no preferred read replica")
        put(self._count(records_size))

    def _aborted(self, aborted: Sequence[tuple[int, int]]) -> bytes:
        if self.version < 4:
            return b""
        tags = _NO_TAGS if self.flexible else b""
        return self._count(len(aborted)) + b"".join([_pack_aborted(*entry) + tags for entry in aborted])


def _compact_count(count: int) -> bytes:
    """A count or size of the flexible versions: one too high, so that null (-1) is 0."""
    return encode_uvarint(count + 1)


def _topic_key(version: int, name: str | None, topic_id: bytes | None) -> bytes:
    if version >= TOPIC_ID_FROM:
        if topic_id is None or len(topic_id) != 16:
            raise ValueError(f"Fetch version {version} needs a topic id of 16 bytes, not {topic_id!r}")
        return topic_id
    if name is None:
        raise ValueError(f"Fetch version {version} needs a topic name")
    return classic_string(name) if version < FLEXIBLE_FROM else compact_string(name)


def _partition_tags(result: PartitionResult) -> bytes:
    """Diverging epoch and leader hint, as tagged fields of a partition. All -1 is the same as none."""
    entries: list[tuple[int, Any]] = []
    if result[8] not in (None, (-1, -1)):
        entries.append((_DIVERGING_EPOCH_TAG, _pack_diverging_epoch(*result[8], 0)))
    if result[9] not in (None, (-1, -1)):
        entries.append((_CURRENT_LEADER_TAG, _pack_current_leader(*result[9], 0)))
    pieces: list[bytes] = []
    put_tagged_fields(_RESPONSE, entries, pieces.append)
    return b"".join(pieces)


@cache
def fetch_response_encoder(version: int) -> FetchResponseEncoder:
    """The encoder of a version, made once."""
    return FetchResponseEncoder(version)

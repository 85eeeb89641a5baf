"""Produce (key 0): append record batches to partitions this broker leads.

Versions: 0-2 old formats, answered UNSUPPORTED_FOR_MESSAGE_FORMAT when they carry them (not advertised);
3 format v2 and transactional id; 5 log start offset in the answer; 7 zstd; 8 record errors; 9 flexible;
10 leader hints (KIP-951); 11 TRANSACTION_ABORTABLE. acks 0 answers nothing and closes on error (behaviour 7).
Transactional produce is not served yet: INVALID_TXN_STATE.

Journey: parse (no copy), one ring entry per partition batch, the slab held until storage has completed each
of them; the answer is built by the last completion and leaves in order through the connection's outbox.
Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.ledger import FIRST_PRODUCE_WITH_FORMAT_V2
from broker.apis.services import Services
from broker.metadata.cache import INTERNAL_TOPICS
from broker.network.connection import Answer, Connection, Request
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader
from broker.protocol.hot_produce import (
    ProduceRequest,
    encode_produce_response,
    encode_single_success,
    parse_produce_request,
)
from broker.replica.partition import Partition, Role
from storage.ipc.entries import SubmissionKind
from storage.ipc.refusal import unpack_refusal
from storage.ipc.ring import CompletionEntry

ADMIN_CLIENT_ID = "__admin_client"
APPEND = int(SubmissionKind.APPEND)
FLAG_ONE_BATCH_V2 = 1
"""Ring flag: the entry must hold exactly one batch of format v2 (Produce v3+, behaviour 26)."""

FIRST_VERSION_WITH_LEADER_HINTS = 10
FIRST_VERSION_WITH_ZSTD = 7
FLAG_NO_ZSTD = 2

PartitionResult = tuple[int, int, int, int, list[tuple[int, str]], str | None, tuple[int, int] | None]


class ProduceOperation:
    """One Produce between receipt and answer. `results` and `plan` run in request order."""

    __slots__ = (
        "acks", "connection", "correlation_id", "done", "frame", "plan", "refusal", "remaining",
        "results", "services", "size_bytes", "slab", "version",
    )  # fmt: skip

    def __init__(
        self, services: Services, connection: Connection, header: RequestHeader, request: Request, acks: int
    ) -> None:
        self.services = services
        self.connection = connection
        self.correlation_id = header.correlation_id
        self.version = header.api_version
        self.acks = acks
        self.slab = request.slab
        self.size_bytes = request.end - request.start
        self.plan: list[tuple[str, int, Partition | None]] = []
        self.results: list[PartitionResult] = []
        self.remaining = 1
        self.done = False
        self.frame = b""
        self.refusal: str | None = None

    def start(self, parsed: ProduceRequest, transactional: bool, client_id: str | None) -> None:
        """Submit what may be appended; refuse the rest. Completes at once when nothing was submitted."""
        services = self.services
        registry, log_dirs = services.registry, services.log_dirs
        flags = _ring_flags(self.version)
        index = 0
        link = None
        for topic, partitions in parsed.topics:
            internal = topic in INTERNAL_TOPICS and client_id != ADMIN_CLIENT_ID
            for number, records_start, records_end in partitions:
                partition = registry.get(topic, number)
                self.plan.append((topic, number, partition))
                error = self._refusal(topic, number, partition, internal, transactional)
                if error == ErrorCode.NOT_ENOUGH_REPLICAS and partition is not None:
                    self.results.append(_refused(error, partition.log_start_offset))
                elif error:
                    self.results.append(_refused(error))
                elif records_start < 0 or partition is None:
                    self.results.append(_refused(ErrorCode.INVALID_RECORD))
                else:
                    self.results.append(_PENDING)
                    self.remaining += 1
                    self.slab.retain()
                    link = log_dirs.links[partition.directory_index]
                    link.submit(
                        self, index, APPEND, partition.slot, partition.slot_generation,
                        partition.leader_epoch, self.slab.offset + records_start,
                        records_end - records_start, flags=flags,
                    )  # fmt: skip
                index += 1
        if link is not None:
            link.flush_if_idle()
        self._one_less()

    def _refusal(
        self, topic: str, number: int, partition: Partition | None, internal: bool, transactional: bool
    ) -> ErrorCode:
        led_here = partition is not None and partition.role is Role.LEADER
        if not led_here and self.services.metadata.partition(topic, number) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if self.acks not in (-1, 0, 1):
            return ErrorCode.INVALID_REQUIRED_ACKS
        if internal:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        if partition is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if transactional:
            return ErrorCode.INVALID_TXN_STATE
        return partition.produce_error(self.acks)

    def start_one(self, topic: str, number: int, partition: Partition, start: int, size_bytes: int) -> None:
        """As `start` for the usual request: one partition, led here, nothing to refuse beforehand."""
        self.plan = [(topic, number, partition)]
        self.results = [_PENDING]
        slab = self.slab
        slab.retain()
        link = self.services.log_dirs.links[partition.directory_index]
        link.submit(
            self, 0, APPEND, partition.slot, partition.slot_generation, partition.leader_epoch,
            slab.offset + start, size_bytes, flags=_ring_flags(self.version),
        )  # fmt: skip
        link.flush_if_idle()

    def storage_completed(self, index: int, error: int, completion: CompletionEntry | None) -> None:
        """One entry is appended or refused; storage no longer reads the slab for it."""
        if completion is None:
            self.results[index] = _refused(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif error:
            self.results[index] = self._storage_refusal(error, completion)
        else:
            self.results[index] = (0, completion[7], completion[12], completion[10], _NO_ERRORS, None, None)
        self.slab.release()
        self._one_less()

    def _storage_refusal(self, error: int, completion: CompletionEntry) -> PartitionResult:
        """Storage left the sentence and the offending records in our slab, in place of the refused batch."""
        start = completion[16] - self.slab.offset
        message, record_errors = unpack_refusal(self.slab.view[start : start + completion[17]])
        return (error, -1, -1, completion[10], record_errors, message, None)

    def _one_less(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self._finish()

    def _finish(self) -> None:
        self.done = True
        results = self.results
        if self.acks == 0:
            if any(result[0] for result in results):
                self.refusal = self._refused_in_silence()
        elif len(results) == 1 and not results[0][0]:
            topic, number, _ = self.plan[0]
            self.frame = encode_single_success(
                self.version, self.correlation_id, topic, number, results[0][1:4]
            )
        else:
            self.frame = self._encode()
        self.services.log_dirs.answered.add(self.connection)

    def _refused_in_silence(self) -> str:
        """Closing is the only way to tell a producer that wants no answer (behaviour 7); this is the reason."""
        topic, number, error = next(
            (topic, number, result[0])
            for (topic, number, _), result in zip(self.plan, self.results, strict=True) if result[0]
        )  # fmt: skip
        return f"{ErrorCode(error).name} for {topic}-{number}, produced with acks=0"

    def _encode(self) -> bytes:
        topics: list[tuple[str, list[Any]]] = []
        nodes: set[int] = set()
        last_topic = None
        for (topic, number, _), result in zip(self.plan, self.results, strict=True):
            if topic is not last_topic:
                topics.append((topic, []))
                last_topic = topic
            error, base_offset, append_time_ms, log_start, record_errors, message, leader = result
            if error == ErrorCode.NOT_LEADER_OR_FOLLOWER and self.version >= FIRST_VERSION_WITH_LEADER_HINTS:
                leader = self._leader_hint(topic, number, nodes)
            topics[-1][1].append(
                (number, error, base_offset, append_time_ms, log_start, record_errors, message, leader)
            )
        endpoints = self._endpoints(nodes) if nodes else ()
        return encode_produce_response(self.version, self.correlation_id, topics, 0, endpoints)

    def _leader_hint(self, topic: str, number: int, nodes: set[int]) -> tuple[int, int] | None:
        known = self.services.metadata.partition(topic, number)
        if known is None or known.leader < 0:
            return None
        nodes.add(known.leader)
        return (known.leader, known.leader_epoch)

    def _endpoints(self, nodes: set[int]) -> list[tuple[int, str, int, str | None]]:
        listener = self.connection.listener_name
        found = (self.services.metadata.endpoint(node, listener) for node in sorted(nodes))
        return [(node.broker_id, node.host, node.port, node.rack) for node in found if node is not None]


def _ring_flags(version: int) -> int:
    """What storage has to know of the request's version; old formats are the log's to refuse."""
    if version >= FIRST_VERSION_WITH_ZSTD:
        return FLAG_ONE_BATCH_V2
    return FLAG_ONE_BATCH_V2 | FLAG_NO_ZSTD if version >= FIRST_PRODUCE_WITH_FORMAT_V2 else 0


_NO_ERRORS: list[tuple[int, str]] = []
_PENDING: PartitionResult = (int(ErrorCode.REQUEST_TIMED_OUT), -1, -1, -1, _NO_ERRORS, None, None)


def _refused(error: int, log_start_offset: int = -1) -> PartitionResult:
    return (int(error), -1, -1, log_start_offset, _NO_ERRORS, None, None)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    """Start the operation and enter it into the connection's outbox; nothing is answered here."""
    parsed = parse_produce_request(request.view, header.body_position, request.end, header.api_version)
    connection = request.connection
    operation = ProduceOperation(services, connection, header, request, parsed.acks)
    connection.pipeline(operation)
    topics = parsed.topics
    if len(topics) == 1 and len(topics[0][1]) == 1 and parsed.transactional_id is None:
        topic, ((number, start, end),) = topics[0]
        partition = services.registry.get(topic, number)
        if (
            partition is not None and start >= 0 and parsed.acks in (-1, 1)
            and not partition.produce_error(parsed.acks) and topic not in INTERNAL_TOPICS
        ):  # fmt: skip
            operation.start_one(topic, number, partition, start, end - start)
            return None
    operation.start(parsed, parsed.transactional_id is not None, header.client_id)
    return None

"""What one log needs of its topic's and its broker's configuration, typed and ready for the hot path.

Runs in: storage, helpers. Immutable; a changed configuration is a new object (`PartitionLog.update_config`).
Field names end in their unit; the key they come from stands beside them.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage.record.batch import CODEC_GZIP, CODEC_LZ4, CODEC_NONE, CODEC_SNAPPY, CODEC_ZSTD

UNLIMITED: Final = (1 << 63) - 1
# compression.type -> codec that every stored batch must have; None keeps the producer's.
TARGET_CODECS: Final[dict[str, int | None]] = {
    "producer": None, "uncompressed": CODEC_NONE, "gzip": CODEC_GZIP, "snappy": CODEC_SNAPPY,
    "lz4": CODEC_LZ4, "zstd": CODEC_ZSTD,
}
# Extra producer snapshots bound what a restarted storage process has to walk again per partition
# (about 20 ms of header walk at 1 KB batches); Kafka has them only at rolls.
SNAPSHOT_INTERVAL_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Defaults are Kafka 3.9's."""

    segment_size_bytes: int = 1 << 30                     # segment.bytes
    segment_ms: int = 604_800_000                         # segment.ms
    segment_jitter_ms: int = 0                            # segment.jitter.ms
    index_size_bytes_max: int = 10 << 20                  # segment.index.bytes
    index_interval_bytes: int = 4096                      # index.interval.bytes
    flush_interval_messages: int = UNLIMITED              # flush.messages
    flush_interval_ms: int = UNLIMITED                    # flush.ms
    retention_bytes: int = -1                             # retention.bytes, -1 = no limit
    retention_ms: int = 604_800_000                       # retention.ms, -1 = no limit
    message_size_bytes_max: int = 1_048_588               # max.message.bytes
    timestamp_before_ms_max: int = UNLIMITED              # message.timestamp.before.max.ms
    timestamp_after_ms_max: int = UNLIMITED               # message.timestamp.after.max.ms
    file_delete_delay_ms: int = 60_000                    # file.delete.delay.ms
    log_append_time: bool = False                         # message.timestamp.type
    compact: bool = False                                 # cleanup.policy holds compact
    delete: bool = True                                   # cleanup.policy holds delete
    min_cleanable_dirty_ratio: float = 0.5                # min.cleanable.dirty.ratio
    min_compaction_lag_ms: int = 0                        # min.compaction.lag.ms
    max_compaction_lag_ms: int = UNLIMITED                # max.compaction.lag.ms
    delete_retention_ms: int = 86_400_000                 # delete.retention.ms
    target_codec: int | None = None                       # compression.type
    validate_all_records: bool = False                    # ottla.validate.records = full
    producer_id_expiration_ms: int = 86_400_000           # producer.id.expiration.ms
    transaction_verification: bool = True                 # transaction.partition.verification.enable

    @property
    def segment_ms_max(self) -> int:
        """When a segment is rolled by time: in a compacted log early enough for max.compaction.lag.ms."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.compact else self.segment_ms

    @classmethod
    def from_topic_config(cls, values: Mapping[str, Any], *, validate_all_records: bool = False,
                          producer_id_expiration_ms: int = 86_400_000,
                          transaction_verification: bool = True) -> LogConfig:
        """`values`: the resolved topic configuration, Kafka's keys, typed; missing keys take the default.

        message.timestamp.difference.max.ms is the older name of both bounds: it counts for a bound that
        is left at its default. preallocate is accepted without effect: files grow as they are written,
        and Kafka only uses the extra bytes while a segment is active.
        """
        difference_ms = values.get("message.timestamp.difference.max.ms", UNLIMITED)
        policies = cleanup_policies(values.get("cleanup.policy", "delete"))
        compression_type = values.get("compression.type", "producer")
        fields = {field: values[key] for key, field in _PLAIN_KEYS.items() if key in values}
        for key, field in _BOUND_KEYS.items():
            bound_ms = values.get(key, UNLIMITED)
            fields[field] = difference_ms if bound_ms == UNLIMITED else bound_ms
        return cls(
            **fields,
            log_append_time=values.get("message.timestamp.type", "CreateTime") == "LogAppendTime",
            compact="compact" in policies,
            delete="delete" in policies,
            target_codec=TARGET_CODECS[compression_type],
            validate_all_records=validate_all_records,
            producer_id_expiration_ms=producer_id_expiration_ms,
            transaction_verification=transaction_verification,
        )


_PLAIN_KEYS: Final = {
    "segment.bytes": "segment_size_bytes",
    "segment.ms": "segment_ms",
    "segment.jitter.ms": "segment_jitter_ms",
    "segment.index.bytes": "index_size_bytes_max",
    "index.interval.bytes": "index_interval_bytes",
    "flush.messages": "flush_interval_messages",
    "flush.ms": "flush_interval_ms",
    "retention.bytes": "retention_bytes",
    "retention.ms": "retention_ms",
    "max.message.bytes": "message_size_bytes_max",
    "file.delete.delay.ms": "file_delete_delay_ms",
    "min.cleanable.dirty.ratio": "min_cleanable_dirty_ratio",
    "min.compaction.lag.ms": "min_compaction_lag_ms",
    "max.compaction.lag.ms": "max_compaction_lag_ms",
    "delete.retention.ms": "delete_retention_ms",
}
_BOUND_KEYS: Final = {
    "message.timestamp.before.max.ms": "timestamp_before_ms_max",
    "message.timestamp.after.max.ms": "timestamp_after_ms_max",
}


def cleanup_policies(value: str | list[str] | tuple[str, ...]) -> frozenset[str]:
    """cleanup.policy is a list in Kafka's configuration; both its text and its parsed form are taken."""
    parts = value.split(",") if isinstance(value, str) else value
    return frozenset(part.strip() for part in parts if part.strip())

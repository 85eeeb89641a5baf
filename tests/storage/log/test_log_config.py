from __future__ import annotations

import pytest

from storage.log.log_config import UNLIMITED, LogConfig, cleanup_policies
from storage.record.batch import CODEC_NONE, CODEC_ZSTD


def test_defaults_are_those_of_kafka_3_9() -> None:
    config = LogConfig.from_topic_config({})
    assert config == LogConfig()
    assert (config.segment_size_bytes, config.segment_ms) == (1073741824, 604800000)
    assert (config.index_interval_bytes, config.index_size_bytes_max) == (4096, 10485760)
    assert (config.retention_ms, config.retention_bytes) == (604800000, -1)
    assert config.message_size_bytes_max == 1048588
    assert (config.min_cleanable_dirty_ratio, config.delete_retention_ms) == (0.5, 86_400_000)
    assert (config.min_compaction_lag_ms, config.max_compaction_lag_ms) == (0, UNLIMITED)


def test_topic_keys_become_typed_fields() -> None:
    config = LogConfig.from_topic_config({
        "segment.bytes": 1000, "flush.messages": 1, "cleanup.policy": ["compact", "delete"],
        "message.timestamp.type": "LogAppendTime", "compression.type": "zstd"})
    assert config.segment_size_bytes == 1000
    assert config.flush_interval_messages == 1
    assert config.compact
    assert config.delete
    assert config.log_append_time
    assert config.target_codec == CODEC_ZSTD


@pytest.mark.parametrize(("value", "codec"), [("producer", None), ("uncompressed", CODEC_NONE)])
def test_compression_type_producer_keeps_what_the_client_chose(value: str, codec: int | None) -> None:
    assert LogConfig.from_topic_config({"compression.type": value}).target_codec == codec


def test_the_old_difference_bound_counts_where_a_new_one_is_not_set() -> None:
    config = LogConfig.from_topic_config({"message.timestamp.difference.max.ms": 5,
                                          "message.timestamp.before.max.ms": 7,
                                          "message.timestamp.after.max.ms": UNLIMITED})
    assert config.timestamp_before_ms_max == 7
    assert config.timestamp_after_ms_max == 5


@pytest.mark.parametrize("value", ["compact,delete", " compact , delete ", ["compact", "delete"]])
def test_cleanup_policy_is_taken_as_text_and_as_list(value: str | list[str]) -> None:
    assert cleanup_policies(value) == {"compact", "delete"}


@pytest.mark.parametrize(("policy", "segment_ms"), [("compact", 300), ("compact,delete", 300), ("delete", 1000)])
def test_a_compacted_log_rolls_in_time_for_its_compaction(policy: str, segment_ms: int) -> None:
    """LogConfig.maxSegmentMs: an active segment cannot be compacted, so it ends within max.compaction.lag.ms."""
    config = LogConfig.from_topic_config(
        {"cleanup.policy": policy, "segment.ms": 1000, "max.compaction.lag.ms": 300})
    assert config.segment_ms_max == segment_ms

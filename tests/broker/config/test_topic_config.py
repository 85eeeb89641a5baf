"""Topic configuration: defaults from the broker, overrides, and what clients may ask for."""
from __future__ import annotations

import pytest

from broker.config import ConfigError, ConfigErrors, KafkaConfig, build_config
from broker.config.key_table import TOPIC_KEYS

LONG_MAX = 2**63 - 1


def config_of(**settings: str) -> KafkaConfig:
    return build_config({name.replace("_", "."): value for name, value in settings.items()}, lambda: "h")


def test_without_settings_topics_have_kafkas_defaults() -> None:
    assert config_of().topic_defaults() == {name: key.default for name, key in TOPIC_KEYS.items()}


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"log_retention_hours": "2"}, "retention.ms", 7_200_000),
        ({"log_retention_hours": "2", "log_retention_minutes": "3"}, "retention.ms", 180_000),
        ({"log_retention_minutes": "3", "log_retention_ms": "4"}, "retention.ms", 4),
        ({"log_retention_minutes": "-3"}, "retention.ms", -1),
        ({"log_roll_hours": "2"}, "segment.ms", 7_200_000),
        ({"log_roll_hours": "2", "log_roll_ms": "5"}, "segment.ms", 5),
        ({"log_roll_jitter_hours": "1"}, "segment.jitter.ms", 3_600_000),
        ({"log_flush_scheduler_interval_ms": "9"}, "flush.ms", 9),
        ({"log_flush_scheduler_interval_ms": "9", "log_flush_interval_ms": "8"}, "flush.ms", 8),
        ({"message_max_bytes": "1000"}, "max.message.bytes", 1000),
        ({"log_segment_bytes": "2000"}, "segment.bytes", 2000),
        ({"min_insync_replicas": "2"}, "min.insync.replicas", 2),
        ({"inter_broker_protocol_version": "2.8", "log_message_format_version": "1.0"},
         "message.format.version", "1.0-IV0"),
        ({"log_message_format_version": "1.0"}, "message.format.version", "3.0-IV1"),
        ({"log_message_timestamp_difference_max_ms": "5"}, "message.timestamp.before.max.ms", 5),
        ({"log_message_timestamp_difference_max_ms": "5", "log_message_timestamp_after_max_ms": "6"},
         "message.timestamp.after.max.ms", 6),
    ],
)
def test_the_first_broker_key_that_is_set_gives_the_default(
    settings: dict[str, str], name: str, value: object
) -> None:
    assert config_of(**settings).topic_defaults()[name] == value


def test_an_override_wins_over_the_broker() -> None:
    config = config_of(log_retention_ms="4", log_segment_bytes="2000")
    resolved = config.resolve_topic({"retention.ms": " 70 "})
    assert (resolved["retention.ms"], resolved["segment.bytes"]) == (70, 2000)


def test_a_topics_timestamp_difference_counts_where_its_bounds_are_unlimited() -> None:
    overrides = {"message.timestamp.difference.max.ms": "5", "message.timestamp.after.max.ms": "6"}
    resolved = config_of().resolve_topic(overrides)
    assert resolved["message.timestamp.before.max.ms"] == 5
    assert resolved["message.timestamp.after.max.ms"] == 6


def test_stored_overrides_are_resolved_even_where_setting_them_is_refused() -> None:
    resolved = config_of().resolve_topic({"cleanup.policy": "compact", "key.of.a.later.version": "1"})
    assert resolved["cleanup.policy"] == ["compact"]
    assert len(resolved) == len(TOPIC_KEYS)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("retention.ms", "-2", False),
        ("retention.ms", "long", False),
        ("retention.ms", None, False),
        ("segment.bytes", "13", False),
        ("no.such.key", "1", False),
        ("log.retention.ms", "1", False),
        ("compression.type", "zstd", True),
        ("remote.storage.enable", "true", True),
        ("remote.log.copy.disable", "true", True),
    ],
)
def test_overrides_that_clients_may_not_set(name: str, value: str | None, refused: bool) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of().validate_topic_config(name, value)
    assert raised.value.key == name
    assert raised.value.refused is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-1"), ("cleanup.policy", "delete"), ("cleanup.policy", ""),
        ("cleanup.policy", "compact"), ("cleanup.policy", "compact,delete"),
        ("compression.type", "producer"), ("min.compaction.lag.ms", "5"), ("preallocate", "TRUE"),
        ("flush.messages", "1"), ("message.timestamp.type", "LogAppendTime"),
        ("message.format.version", "0.8.2"),
    ],
)
def test_overrides_that_clients_may_set(name: str, value: str) -> None:
    config_of().validate_topic_config(name, value)


def test_old_record_formats_are_refused_where_they_count() -> None:
    config = config_of(inter_broker_protocol_version="2.8")
    config.validate_topic_config("message.format.version", "0.11.0")
    with pytest.raises(ConfigError):
        config.validate_topic_config("message.format.version", "0.10.2")


def test_all_faults_of_a_topic_are_reported_at_once() -> None:
    overrides = {
        "segment.ms": "0", "min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8", "retention.ms": "1",
    }
    with pytest.raises(ConfigErrors) as raised:
        config_of().validate_topic_configs(overrides)
    assert [error.key for error in raised.value.errors] == ["segment.ms", "min.compaction.lag.ms"]


def test_relations_include_the_brokers_defaults() -> None:
    config = config_of(log_cleaner_min_compaction_lag_ms="500")
    with pytest.raises(ConfigErrors):
        config.validate_topic_configs({"max.compaction.lag.ms": "499"})
    config.validate_topic_configs({"max.compaction.lag.ms": "500"})

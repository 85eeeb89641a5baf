"""Relations between keys; the same are compared with a real Kafka in tests/integration/config_java."""
from __future__ import annotations

import pytest

from tests.broker.config.faults import errors_of, faulty_keys


@pytest.mark.parametrize(
    ("settings", "faulty"),
    [
        ({"broker_id": "1000"}, []),
        ({"broker_id": "1001"}, ["broker.id"]),
        ({"broker_id": "1001", "reserved_broker_max_id": "2000"}, []),
        ({"broker_id": "1001", "broker_id_generation_enable": "false"}, []),
        ({"broker_id_generation_enable": "false"}, ["broker.id"]),
        ({"broker_id": "-2"}, ["broker.id"]),
        ({"broker_id": "1", "node_id": "2"}, ["node.id"]),
        ({"node_id": "1001"}, ["broker.id"]),
        ({"log_roll_ms": "0"}, ["log.roll.ms"]),
        ({"log_roll_jitter_ms": "-1"}, ["log.roll.jitter.ms"]),
        ({"log_retention_ms": "0", "log_retention_hours": "5"}, ["log.retention.ms"]),
        ({"log_retention_minutes": "0"}, ["log.retention.minutes"]),
        ({"log_retention_hours": "0"}, ["log.retention.hours"]),
        ({"log_retention_ms": "5", "log_retention_hours": "0"}, []),
        ({"log_retention_ms": "-9"}, []),
        ({"log_flush_interval_ms": "-1"}, ["log.flush.interval.ms"]),
        ({"log_flush_scheduler_interval_ms": "-1"}, ["log.flush.scheduler.interval.ms"]),
        ({"log_flush_scheduler_interval_ms": "-1", "log_flush_interval_ms": "1"}, []),
        ({"log_dirs": ","}, ["log.dirs"]),
        ({"log_dirs": "/tmp/a,/tmp/../tmp/a"}, ["log.dirs"]),
        ({"log_dir": ""}, ["log.dir"]),
        ({"log_cleaner_threads": "0"}, ["log.cleaner.threads"]),
        ({"log_cleaner_threads": "128"}, ["log.cleaner.dedupe.buffer.size"]),
        ({"log_cleaner_threads": "127"}, []),
        ({"log_cleaner_min_compaction_lag_ms": "2", "log_cleaner_max_compaction_lag_ms": "1"},
         ["log.cleaner.min.compaction.lag.ms"]),
        ({"replica_fetch_wait_max_ms": "30001"}, ["replica.fetch.wait.max.ms", "replica.fetch.wait.max.ms"]),
        ({"queued_max_request_bytes": "5"}, ["queued.max.request.bytes"]),
        ({"queued_max_request_bytes": "-5"}, []),
        ({"connections_max_idle_ms": "100"}, ["connections.max.idle.ms"]),
        ({"connections_max_idle_ms": "-1"}, []),
        ({"offsets_topic_compression_codec": "5"}, ["offsets.topic.compression.codec"]),
        ({"offsets_commit_required_acks": "4"}, ["offsets.commit.required.acks"]),
        ({"group_coordinator_rebalance_protocols": "unknown"}, ["group.coordinator.rebalance.protocols"]),
        ({"ottla_arena_max_bytes": "20000000"}, ["ottla.arena.max.bytes"]),
        ({"inter_broker_protocol_version": "0.10.0"}, ["log.message.format.version"]),
    ],
)
def test_relations(settings: dict[str, str], faulty: list[str]) -> None:
    assert faulty_keys(**settings) == faulty


def test_old_record_formats_are_refused_where_they_count() -> None:
    [error] = errors_of(inter_broker_protocol_version="2.8", log_message_format_version="0.10.2")
    assert error.refused
    assert errors_of(inter_broker_protocol_version="3.0", log_message_format_version="0.10.2") == []


def test_a_limit_per_address_of_zero_needs_exceptions() -> None:
    assert "max.connections.per.ip" in faulty_keys(max_connections_per_ip="0")
    assert errors_of(max_connections_per_ip="0", max_connections_per_ip_overrides="10.0.0.1:5") == []
    [error] = errors_of(max_connections_per_ip_overrides="h:many")
    assert error.allowed == "a list with commas of host:number"


def test_a_key_that_is_wrong_by_itself_is_reported_once() -> None:
    assert faulty_keys(log_cleaner_threads="many", broker_id="x", log_roll_ms="-") == [
        "log.cleaner.threads", "broker.id", "log.roll.ms",
    ]


def test_every_fault_says_what_to_do() -> None:
    for error in errors_of(broker_id="1001", log_roll_ms="0", compression_type="gzip", listeners="x"):
        assert error.advice
        assert error.allowed
        assert error.value is not None

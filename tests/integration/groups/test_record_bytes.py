"""What Ottla writes into __consumer_offsets is, byte for byte, what Kafka writes; and Kafka's tools read it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.apis.brokers import ApiBroker
from tests.integration.groups.conftest import Start
from tests.integration.groups.log_records import LoggedRecord, of_group, segments
from tests.integration.groups.members import Member, commit, delete_group, new_group, wait_for_coordinator
from tests.peers.java_tools import JavaTools

pytestmark = pytest.mark.kafka
MEMBER_ID = re.compile(rb"i1-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIMESTAMP = re.compile(rb"\x00\x00\x01[\x80-\xff].{4}", re.DOTALL)
"""Milliseconds of the years 2022 to 2039."""


@pytest.fixture(scope="module")
def both(start_broker: Start) -> list[tuple[ApiBroker, str, str]]:
    """(broker, group, topic), after the same requests to either; the names are the same."""
    group, topic = new_group("bytes"), "bytes-topic"
    brokers = [start_broker("kafka", "plain"), start_broker("ottla", "plain")]
    for broker in brokers:
        broker.create(topic, 2)
        _exercise(broker, group, topic)
    return [(broker, group, topic) for broker in brokers]


def _exercise(broker: ApiBroker, group: str, topic: str) -> None:
    wait_for_coordinator(broker, group)
    with Member(broker, group, "i1", topics=(topic,)) as member, broker.connect() as client:
        member.settle()
        member.commit(topic, 7)
        member.commit(topic, 8, metadata="note", leader_epoch=4)
        member.commit(topic, 9, version=3, retention_time_ms=86_400_000)
        member.settle()
        member.leave()
        commit(client, group, {(topic, 1): 5}, metadata=None)
        commit(client, group, {(topic, 0): 1, (topic, 1): 2}, version=2, retention_time_ms=-1)
        delete_group(client, group)


def _place(logged: LoggedRecord) -> tuple[int, bytes]:
    """Within a batch Kafka's order is that of a hash table."""
    return (logged.header.base_offset, logged.record.key or b"")


def _fields(logged: LoggedRecord) -> dict[str, Any]:
    header = logged.header
    return {
        "partition": logged.partition,
        "attributes": header.attributes,
        "producer": (header.producer_id, header.producer_epoch, header.base_sequence),
        "record_count": header.record_count,
        "size_bytes": header.size_bytes,
        "key": logged.record.key,
        "value": _masked(logged.record.value),
        "headers": logged.record.headers,
    }


def _masked(value: bytes | None) -> bytes | None:
    return None if value is None else TIMESTAMP.sub(b"<time>", MEMBER_ID.sub(b"<member>", value))


def test_the_same_requests_leave_the_same_bytes(both: list[tuple[ApiBroker, str, str]]) -> None:
    (by_kafka, by_ottla) = (
        [_fields(logged) for logged in sorted(of_group(broker.node.log_dirs, group), key=_place)]
        for broker, group, _ in both
    )
    assert len(by_kafka) > 8
    assert by_ottla == by_kafka


def test_dump_log_segments_decodes_what_ottla_wrote(
    both: list[tuple[ApiBroker, str, str]], java_tools: JavaTools
) -> None:
    _, (broker, group, topic) = both
    paths = [path for path in segments(broker.node.log_dirs) if path.stat().st_size]
    assert java_tools.complaints_about_files(paths, "--deep-iteration") == []
    text = java_tools.dump_log_segments(paths, "--offsets-decoder")
    assert f'"group":"{group}","topic":"{topic}","partition":0' in text
    assert '"protocolType":"consumer","generation":1,"protocol":"range"' in text
    assert '"offset":8' in text and '"metadata":"note"' in text

"""Consumer groups of real clients: every record once, offsets kept, partitions handed over."""
from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.clients.dataset import PARTITIONS
from tests.conftest import Target
from tests.peers.java_tools import JavaTools

RECORDS = 3000
WAIT_SECONDS = 40
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture
def topic(target: Target, make_topic: Callable[..., str]) -> str:
    """With the numbers 0 to RECORDS - 1 in it."""
    name = make_topic()
    producer = Producer({"bootstrap.servers": target.bootstrap})
    for index in range(RECORDS):
        producer.produce(name, str(index).encode(), partition=index % PARTITIONS)
    assert producer.flush(WAIT_SECONDS) == 0
    return name


class Members:
    """Consumers of one group in this process; `seen` counts what they were given, `events` their assignments."""

    def __init__(self, target: Target, topic: str, **settings: Any) -> None:
        self._settings = {
            "bootstrap.servers": target.bootstrap, "group.id": f"group-of-{topic}", "auto.offset.reset": "earliest",
            "session.timeout.ms": 10_000, "heartbeat.interval.ms": 500, "enable.auto.commit": False, **settings,
        }  # fmt: skip
        self._topic = topic
        self.consumers: list[Consumer] = []
        self.seen: list[int] = []
        self.events: list[tuple[int, str, int]] = []

    def add(self, **settings: Any) -> Consumer:
        number = len(self.consumers)
        consumer = Consumer({**self._settings, **settings})

        def noted(what: str) -> Callable[[Consumer, list[TopicPartition]], None]:
            return lambda _, partitions: self.events.append((number, what, len(partitions)))

        consumer.subscribe([self._topic], on_assign=noted("assigned"), on_revoke=noted("revoked"))
        self.consumers.append(consumer)
        return consumer

    def poll_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            assert time.monotonic() < deadline, self.events
            for consumer in self.consumers:
                for message in consumer.consume(500, 0.05):
                    assert message.error() is None, message.error()
                    self.seen.append(int(message.value() or b"-1"))

    def assigned(self) -> list[int]:
        return [len(consumer.assignment()) for consumer in self.consumers]

    def close(self) -> None:
        while self.consumers:
            self.consumers.pop().close()


@pytest.fixture
def members(target: Target, topic: str) -> Iterator[Members]:
    made = Members(target, topic)
    yield made
    made.close()


def test_two_members_share_the_partitions_and_see_every_record_once(members: Members) -> None:
    members.add()
    members.add()
    members.poll_until(lambda: sorted(members.assigned()) == [1, 2])
    members.poll_until(lambda: len(members.seen) >= RECORDS)
    assert sorted(members.seen) == list(range(RECORDS))


def test_a_group_goes_on_where_it_stopped(members: Members) -> None:
    consumer = members.add()
    members.poll_until(lambda: len(members.seen) >= RECORDS // 2)
    consumer.commit(asynchronous=False)
    members.close()
    members.add()
    members.poll_until(lambda: len(members.seen) >= RECORDS)
    assert sorted(members.seen) == list(range(RECORDS))


def test_cooperative_members_give_up_only_what_moves(target: Target, topic: str) -> None:
    members = Members(target, topic, **{"partition.assignment.strategy": "cooperative-sticky"})
    members.add()
    members.poll_until(lambda: members.assigned() == [PARTITIONS])
    members.add()
    members.poll_until(lambda: sorted(members.assigned()) == [1, 2])
    assert (0, "revoked", 1) in members.events and (0, "revoked", PARTITIONS) not in members.events
    members.poll_until(lambda: len(set(members.seen)) == RECORDS)
    members.close()


def test_a_static_member_comes_back_to_its_partitions(members: Members) -> None:
    members.add(**{"group.instance.id": "one"})
    members.add(**{"group.instance.id": "two"})
    members.poll_until(lambda: sorted(members.assigned()) == [1, 2])
    first, second = members.consumers
    held = [partition.partition for partition in second.assignment()]
    before = [event for event in members.events if event[0] == 0]
    second.close()
    members.consumers.pop()
    members.add(**{"group.instance.id": "two"})
    members.poll_until(lambda: len(members.assigned()) == 2 and members.assigned()[1] > 0)
    assert [partition.partition for partition in members.consumers[1].assignment()] == held
    assert [event for event in members.events if event[0] == 0] == before
    first.close()
    members.consumers.pop(0)


def test_the_admin_client_lists_and_changes_offsets(target: Target, topic: str, members: Members) -> None:
    consumer = members.add()
    members.poll_until(lambda: len(members.seen) >= RECORDS)
    consumer.commit(asynchronous=False)
    group = f"group-of-{topic}"
    admin = AdminClient({"bootstrap.servers": target.bootstrap})
    described = admin.describe_consumer_groups([group])[group].result(WAIT_SECONDS)
    assert (described.state.name, len(described.members), described.partition_assignor) == ("STABLE", 1, "range")
    members.close()
    wanted = ConsumerGroupTopicPartitions(group)
    found = admin.list_consumer_group_offsets([wanted])[group].result(WAIT_SECONDS).topic_partitions
    assert sorted((each.partition, each.offset) for each in found) == [
        (number, RECORDS // PARTITIONS) for number in range(PARTITIONS)
    ]
    back = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 5)])
    admin.alter_consumer_group_offsets([back])[group].result(WAIT_SECONDS)
    found = admin.list_consumer_group_offsets([wanted])[group].result(WAIT_SECONDS).topic_partitions
    assert (0, 5) in [(each.partition, each.offset) for each in found]
    admin.delete_consumer_groups([group])[group].result(WAIT_SECONDS)
    listed = admin.list_consumer_groups().result(WAIT_SECONDS)
    assert group not in [each.group_id for each in listed.valid]


def test_kcat_consumes_as_a_group(target: Target, topic: str, kcat: str) -> None:
    command = [kcat, "-b", target.bootstrap, "-G", f"kcat-of-{topic}", "-e", "-X", "auto.offset.reset=earliest"]
    first, second = (
        subprocess.run([*command, topic], capture_output=True, text=True, timeout=WAIT_SECONDS, check=True).stdout
        for _ in range(2)
    )
    assert sorted(map(int, first.split())) == list(range(RECORDS))
    assert second == ""


def test_java_tools_consume_describe_reset_and_delete(
    target: Target, topic: str, java_tools: JavaTools
) -> None:
    server = ("--bootstrap-server", target.bootstrap)
    group = ("--group", f"java-of-{topic}")
    output = java_tools.run(
        CONSOLE_CONSUMER, *server, *group, "--topic", topic, "--from-beginning", "--max-messages", str(RECORDS),
        "--timeout-ms", "30000",
    ).stdout  # fmt: skip
    assert sorted(map(int, output.split())) == list(range(RECORDS))
    described = java_tools.run(CONSUMER_GROUPS, *server, *group, "--describe").stdout
    rows = [line.split() for line in described.splitlines() if topic in line and line.startswith("java-of")]
    assert sorted((row[2], row[3], row[5]) for row in rows) == [
        (str(number), str(RECORDS // PARTITIONS), "0") for number in range(PARTITIONS)
    ]
    reset = ("--reset-offsets", "--to-earliest", "--topic", topic, "--execute")
    rows = [line.split() for line in java_tools.run(CONSUMER_GROUPS, *server, *group, *reset).stdout.splitlines()]
    assert java_tools.run(CONSUMER_GROUPS, *server, *group, "--delete").stdout.count("successful") == 1

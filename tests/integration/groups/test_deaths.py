"""Ottla's processes die under groups: what was acknowledged is there, and groups go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.wire import ConnectionClosed
from tests.integration.groups.members import (
    Member,
    commit,
    committed,
    describe,
    fetch_offsets,
    new_group,
    wait_for_coordinator,
)
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import wait_until

SETTINGS = {
    "offsets.topic.num.partitions": "5", "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000", "offsets.topic.segment.bytes": "100000",
}  # fmt: skip
RETRIABLE = {
    ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.REQUEST_TIMED_OUT, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
}  # fmt: skip


@pytest.fixture
def broker(make_ottla: Callable[..., OttlaBroker]) -> Iterator[ApiBroker]:
    node = make_ottla(overrides=SETTINGS)
    node.start()
    yield ApiBroker(node, 0)


@pytest.mark.parametrize("stop", ["clean", "killed"])
def test_groups_and_offsets_are_there_after_a_restart(broker: ApiBroker, stop: str) -> None:
    topic = broker.topic(partitions=2).name
    with Member(broker, "stable", "i1", session_timeout_ms=60_000) as member, broker.connect() as client:
        member.settle()
        member.commit(topic, 3)
        groups = [new_group("simple") for _ in range(20)]
        for number, group in enumerate(groups):
            wait_for_coordinator(broker, group)
            for offset in range(50):
                commit(client, group, {(topic, 0): offset, (topic, 1): number})
    node = broker.node
    assert isinstance(node, OttlaBroker)
    if stop == "clean":
        assert node.stop() == 0
    else:
        node.kill()
    node.start()
    wait_for_coordinator(broker, "stable")
    with broker.connect() as client:
        described = describe(client, "stable")
        assert (described.group_state, described.members[0].member_assignment) == ("Stable", b"all")
        assert committed(client, "stable", topic) == 3
        for number, group in enumerate(groups):
            wait_for_coordinator(broker, group)
            assert (committed(client, group, topic), committed(client, group, topic, 1)) == (49, number)


@pytest.mark.parametrize("title", ["storage", "front end", "controller"])
def test_no_acknowledged_commit_is_lost_when_a_process_dies(broker: ApiBroker, title: str) -> None:
    topic, group = broker.topic().name, new_group()
    wait_for_coordinator(broker, group)
    acknowledged, stop = [-1], threading.Event()

    def keep_committing() -> None:
        offset = 0
        while not stop.is_set():
            try:
                with broker.connect() as client:
                    while not stop.is_set():
                        error = commit(client, group, {(topic, 0): offset})[topic, 0]
                        if not error:
                            acknowledged[0] = offset
                        else:
                            assert error in RETRIABLE, error
                            time.sleep(0.01)
                        offset += 1
            except (ConnectionClosed, OSError):
                time.sleep(0.02)

    committer = threading.Thread(target=keep_committing)
    committer.start()
    try:
        for _ in range(2):
            before = acknowledged[0]
            wait_until(lambda before=before: acknowledged[0] > before + 20, "commits are acknowledged", 20)
            assert isinstance(broker.node, OttlaBroker)
            os.kill(broker.node.pid_of(title), signal.SIGKILL)
            time.sleep(0.5)
        before = acknowledged[0]
        wait_until(lambda: acknowledged[0] > before + 20, "commits go on", 20)
    finally:
        stop.set()
        committer.join()
    _check(broker, group, topic, acknowledged[0])
    broker.node.stop()
    broker.node.start()
    _check(broker, group, topic, acknowledged[0])


def _check(broker: ApiBroker, group: str, topic: str, acknowledged: int) -> None:
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        assert not fetch_offsets(client, group).error_code
        assert committed(client, group, topic) >= acknowledged >= 0


def test_a_group_outlives_its_storage_process(broker: ApiBroker) -> None:
    topic = broker.topic().name
    with Member(broker, new_group()) as member:
        member.settle()
        assert isinstance(broker.node, OttlaBroker)
        os.kill(broker.node.pid_of("storage"), signal.SIGKILL)
        assert member.heartbeat() == ErrorCode.NONE
        wait_until(lambda: member.commit(topic, 1) == ErrorCode.NONE, "commits are taken again", 20)
        assert member.heartbeat() == ErrorCode.NONE
        assert member.join().generation_id == 2
        assert member.sync({member.id: b"x"}).assignment == b"x"

"""`python -m tests.zookeeper_rounds.outage --seconds 600`: ZooKeeper is away while records flow.

Two nodes; an idempotent producer and a consumer on a topic with partitions on both. ZooKeeper is killed and
comes back after the given time. No record may fail and none be missing; afterwards a topic is created and
served within some seconds, and everything is registered.

Runs in: a process of its own, main thread.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.peers.processes import wait_until
from tests.zookeeper_rounds.cluster import Cluster, running_cluster

TOPIC = "flow"
PARTITIONS = 2
RECORDS_PER_SECOND = 50
CONSUMED_WAIT_SECONDS_MAX = 20
TOPIC_SECONDS_MAX = 10
FLOW_SECONDS_MAX = 20
"""A new idempotent producer needs an id, which comes from ZooKeeper."""



class Flow:
    """Records from a producer to a consumer, and whatever either complains about."""

    def __init__(self, bootstrap: str) -> None:
        self.errors: list[str] = []
        self.sent_count = 0
        self.acked_count = 0
        self.consumed: set[bytes] = set()
        self._ended = threading.Event()
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True,
                                   "message.timeout.ms": 10_000})
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "flow", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
        self._threads = [threading.Thread(target=target, daemon=True)
                         for target in (self._produce, self._consume)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """All records are acknowledged and have been consumed, or it is an error."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        del self._producer  # or it would go on asking for brokers that are gone
        if len(self.consumed) != self.sent_count or self.acked_count != self.sent_count:
            self.errors.append(f"{self.sent_count} records sent, {self.acked_count} acknowledged, "
                               f"{len(self.consumed)} consumed")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.errors.append(f"delivery: {error}")
        else:
            self.acked_count += 1

    def _produce(self) -> None:
        while not self._ended.wait(1 / RECORDS_PER_SECOND):
            self._producer.produce(TOPIC, str(self.sent_count).encode(), partition=self.sent_count % PARTITIONS,
                                   on_delivery=self._delivered)
            self.sent_count += 1
            self._producer.poll(0)
        self._producer.flush(CONSUMED_WAIT_SECONDS_MAX)

    def _consume(self) -> None:
        deadline = float("inf")
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.2)
            if self._ended.is_set():
                deadline = min(deadline, time.monotonic() + CONSUMED_WAIT_SECONDS_MAX)
                if len(self.consumed) == self.sent_count:
                    break
            if message is None:
                continue
            if message.error():
                self.errors.append(f"consumer: {message.error()}")
            else:
                self.consumed.add(message.value())
        self._consumer.close()


def run_outage(work_dir: Path, seconds: float) -> dict[str, float]:
    """What was measured; AssertionError with what went wrong."""
    with running_cluster(work_dir, 2, 1) as cluster:
        created_in = _create_topic(cluster, TOPIC)
        flow = Flow(cluster.nodes[1].bootstrap)
        flow.start()
        wait_until(lambda: bool(flow.acked_count and flow.consumed), "records flow", FLOW_SECONDS_MAX)
        processes = {broker_id: node.processes() for broker_id, node in cluster.nodes.items()}
        cluster.servers[0].kill()
        time.sleep(seconds)
        cluster.servers[0].start()
        started = time.monotonic()
        while not cluster.create_topic_by_call("after", PARTITIONS):
            assert time.monotonic() - started < TOPIC_SECONDS_MAX, "no topic can be created"
            time.sleep(0.1)
        created_after = time.monotonic() - started
        cluster.settle({TOPIC: PARTITIONS, "after": PARTITIONS})
        settled_after = time.monotonic() - started
        flow.end()
        assert not flow.errors, flow.errors[:10]
        assert processes == {broker_id: node.processes() for broker_id, node in cluster.nodes.items()}
        return {"records": flow.sent_count, "topic created before, s": created_in,
                "topic created after, s": created_after, "settled after, s": settled_after}


def _create_topic(cluster: Cluster, topic: str) -> float:
    started = time.monotonic()
    while not cluster.create_topic_by_call(topic, PARTITIONS):
        time.sleep(0.05)
    cluster.settle({topic: PARTITIONS})
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.zookeeper_rounds.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    work = Path(tempfile.mkdtemp(prefix="ottla-outage-"))
    print(run_outage(work, parser.parse_args().seconds))
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())

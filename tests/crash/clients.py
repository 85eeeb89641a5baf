"""The clients of a round, each a thread around librdkafka: writers, a follower, a rereader, a topic maker.

Why threads: confluent-kafka does its work in C without the interpreter lock, and one process keeps one ledger.
Settings: never give up on a record (no message time-out), retry and reconnect quickly, report any gap; an
offset out of range is an error, because the log of a round never shrinks.
Runs in: the test process.
"""
from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.crash.ledger import Ledger
from tests.crash.ledger import TopicPartition as Place
from tests.crash.values import Stamp, make_value
from tests.peers.wire import Address, WireConnection, WireError, has_leaders

QUICK_RETRIES: Mapping[str, object] = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "socket.connection.setup.timeout.ms": 5000,
    "socket.timeout.ms": 10_000,
    "log_level": 0,
}
BURST_RECORDS_MAX = 40
BATCH_BYTES_MAX = 40_000
"""Fits the smallest segments that rounds use, and holds the largest records."""
CHURNED_TOPIC = "churned"
LIFE_SIGN_SECONDS = 15
"""How long a client may be without any success before that is itself a violation."""


def producer_settings(bootstrap: str, *, idempotent: bool) -> dict[str, object]:
    kind: dict[str, object] = {"acks": 1, "retries": 1_000_000}
    if idempotent:
        kind = {"enable.idempotence": True, "enable.gapless.guarantee": True, "acks": "all"}
    return {"bootstrap.servers": bootstrap, "message.timeout.ms": 0, "request.timeout.ms": 5000,
            "queue.buffering.max.messages": 100_000, "batch.size": BATCH_BYTES_MAX, **QUICK_RETRIES, **kind}


def consumer_settings(bootstrap: str) -> dict[str, object]:
    return {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False,
            "auto.offset.reset": "error", "check.crcs": True, "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 20, **QUICK_RETRIES}


class Client(threading.Thread):
    """A thread that ends when told; what goes wrong in it is a violation."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger = ledger
        self._stopping = threading.Event()

    def tell_to_end(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.ledger.violate(f"{self.name}: {type(error).__name__}: {error}")
            raise

    def work(self) -> None:
        raise NotImplementedError


class Writer(Client):
    """Produces bursts to its partitions in turn, seeded; every record is to be acknowledged in the end.

    unfinished: records without an answer when it gave up waiting.
    """

    def __init__(self, number: int, ledger: Ledger, settings: Mapping[str, object], places: Sequence[Place],
                 seed: int, records_per_second: float, *, flush_seconds: float = 30) -> None:
        super().__init__(f"producer {number}", ledger)
        self.number = number
        self.failures = 0
        self.unfinished = 0
        self._settings = dict(settings)
        self._places = list(places)
        self._random = random.Random(seed)
        self._pause_seconds = 1 / records_per_second
        self._flush_seconds = flush_seconds
        self._sequences: dict[Place, int] = {}
        if self._settings.get("enable.idempotence"):
            ledger.idempotent.add(number)

    def add_places(self, places: Sequence[Place]) -> None:
        """From now on to these partitions too."""
        self._places = [*self._places, *places]

    def work(self) -> None:
        producer = Producer({**self._settings, "error_cb": self._on_error})
        while not self._stopping.is_set():
            if not self._places:
                producer.poll(0.05)
                continue
            count = self._random.randint(1, BURST_RECORDS_MAX)
            self._burst(producer, self._random.choice(self._places), count)
            self._serve_until(producer, time.monotonic() + count * self._pause_seconds)
        self.unfinished = producer.flush(self._flush_seconds)
        if self.unfinished:
            self.ledger.violate(f"{self.name}: {self.unfinished} records without an answer after "
                                f"{self._flush_seconds:g} s")
            producer.purge()
            producer.flush(5)

    def _serve_until(self, producer: Producer, deadline: float) -> None:
        while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            producer.poll(min(left, 0.1))

    def _burst(self, producer: Producer, place: Place, count: int) -> None:
        for _ in range(count):
            sequence = self._sequences.get(place, 0)
            stamp = Stamp(self.number, *place, sequence)
            try:
                producer.produce(place[0], make_value(stamp), partition=place[1],
                                 on_delivery=lambda error, message, stamp=stamp: self._on_delivery(
                                     error, message, stamp))
            except BufferError:
                producer.poll(0.05)
                return
            self._sequences[place] = sequence + 1
            self.ledger.sent(stamp)

    def _on_delivery(self, error: KafkaError | None, message: Message, stamp: Stamp) -> None:
        if error is None:
            offset = message.offset()
            self.ledger.acked(stamp, -1 if offset is None else offset)
            return
        self.failures += 1
        if error.code() != KafkaError._PURGE_QUEUE and error.code() != KafkaError._PURGE_INFLIGHT:
            self.ledger.violate(f"{self.name}: {stamp} failed: {error}", f"{self.name} failed")

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.ledger.violate(f"{self.name}: fatal: {error}")


class Reader(Client):
    """Reads its partitions without a gap, from 0; a rereader jumps back to a seeded offset now and then."""

    def __init__(self, name: str, ledger: Ledger, bootstrap: str, places: Sequence[Place], seed: int,
                 jump_seconds: float | None = None) -> None:
        super().__init__(name, ledger)
        self._servers = bootstrap
        self._places = list(places)
        self._random = random.Random(seed)
        self._jump_seconds = jump_seconds
        self._next: dict[Place, int] = {}
        self._added: list[Place] = []

    def add_places(self, places: Sequence[Place]) -> None:
        """From now on these partitions too."""
        self._added = [*self._added, *places]

    def work(self) -> None:
        consumer = Consumer(consumer_settings(self._servers))
        try:
            self._assign(consumer, dict.fromkeys(self._places, 0))
            next_jump = time.monotonic() + (self._jump_seconds or 1e9)
            while not self._stopping.is_set():
                self._take(consumer.consume(500, timeout=0.1))
                if self._added or time.monotonic() > next_jump:
                    next_jump = time.monotonic() + (self._jump_seconds or 1e9)
                    self._places += self._added
                    self._added = []
                    self._assign(consumer, {place: self._restart_offset(place) for place in self._places})
        finally:
            consumer.close()

    def _restart_offset(self, place: Place) -> int:
        if self._jump_seconds is None:
            return self._next.get(place, 0)
        return self._random.randint(0, self.ledger.seen_end(place))

    def _assign(self, consumer: Consumer, offsets: dict[Place, int]) -> None:
        self._next = dict(offsets)
        consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self.ledger.violate(f"{self.name}: {message.topic()}-{message.partition()}: {error}", self.name)
                continue
            place = (message.topic(), message.partition())
            offset = message.offset()
            if offset != self._next.get(place):
                self.ledger.violate(f"{self.name}: {place[0]}-{place[1]}: offset {offset} after "
                                    f"{self._next.get(place, 0) - 1}")
            self._next[place] = offset + 1
            self.ledger.saw(self.name, place, offset, message.value(), message.timestamp()[1])


class TopicMaker(Client):
    """Creates topics while parts die; once one has leaders, writers and readers get it."""

    def __init__(self, ledger: Ledger, address: Address, topics: Mapping[str, int], pause_seconds: float,
                 writers: Sequence[Writer], readers: Sequence[Reader]) -> None:
        super().__init__("topic maker", ledger)
        self._address = address
        self._topics = dict(topics)
        self._pause_seconds = pause_seconds
        self._writers = writers
        self._readers = readers

    def work(self) -> None:
        for topic, partitions in self._topics.items():
            if self._stopping.wait(self._pause_seconds):
                return
            if not create_topic_patiently(self._address, topic, partitions):
                self.ledger.violate(f"topic {topic} was not created within {LIFE_SIGN_SECONDS} s")
                return
            self.ledger.note(f"topic {topic} with {partitions} partitions is there")
            places = [(topic, number) for number in range(partitions)]
            for client in (*self._writers, *self._readers):
                client.add_places(places)


class Churner(Client):
    """Creates a topic, writes and reads it, deletes it, and creates it again under the same name.

    Each incarnation must begin empty and hold what was written to it, whatever dies meanwhile.
    """

    RECORDS = 25

    def __init__(self, number: int, ledger: Ledger, servers: str, address: Address, partitions: int) -> None:
        super().__init__("churner", ledger)
        self.incarnations = 0
        self._number = number
        self._servers = servers
        self._address = address
        self._partitions = partitions

    def work(self) -> None:
        while not self._stopping.is_set():
            if not create_topic_patiently(self._address, CHURNED_TOPIC, self._partitions):
                self.ledger.violate(f"{CHURNED_TOPIC} was not created within {LIFE_SIGN_SECONDS} s")
                return
            self._write_and_read(self.incarnations)
            if not delete_topic_patiently(self._address, CHURNED_TOPIC):
                self.ledger.violate(f"{CHURNED_TOPIC} was not deleted within {LIFE_SIGN_SECONDS} s")
                return
            self.incarnations += 1
        self.ledger.note(f"{CHURNED_TOPIC} lived {self.incarnations} times")

    def _write_and_read(self, incarnation: int) -> None:
        """By partition: sequences of this incarnation only, so that nothing of an earlier one is taken for it."""
        producer = Producer(producer_settings(self._servers, idempotent=True))
        places = [(CHURNED_TOPIC, number) for number in range(self._partitions)]
        first = incarnation * self.RECORDS
        expected = {place: [make_value(Stamp(self._number, *place, sequence))
                            for sequence in range(first, first + self.RECORDS)] for place in places}
        for place, values in expected.items():
            for value in values:
                producer.produce(place[0], value, partition=place[1], on_delivery=self._on_delivery)
        if unfinished := producer.flush(LIFE_SIGN_SECONDS):
            self.ledger.violate(f"{CHURNED_TOPIC}: {unfinished} records of incarnation {incarnation} not taken")
            return
        for place, records in read_logs_patiently(self._servers, self._address, places).items():
            if [value for _, value, _ in records] != expected[place]:
                self.ledger.violate(f"{place[0]}-{place[1]}, incarnation {incarnation}: {len(records)} records: "
                                    f"{[value[:20] for _, value, _ in records]}")

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.ledger.violate(f"{CHURNED_TOPIC}: {error}", "churn")


def create_topic_patiently(address: Address, topic: str, partitions: int,
                           configs: Mapping[str, str] | None = None, *,
                           timeout_seconds: float = LIFE_SIGN_SECONDS) -> bool:
    """Tries until the topic has all its leaders; an answer lost with a dying part is asked for again.

    No answer is final: "exists already" may be said of an earlier incarnation whose deletion is under way.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(WireError, OSError), WireConnection(address, timeout_seconds=5) as connection:
            connection.create_topic(topic, partitions, configs)
        if has_leaders(address, {topic: partitions}):
            return True
        time.sleep(0.05)
    return False


def delete_topic_patiently(address: Address, topic: str) -> bool:
    """Tries until the topic is not in the metadata any more."""
    deadline = time.monotonic() + LIFE_SIGN_SECONDS
    while time.monotonic() < deadline:
        try:
            with WireConnection(address, timeout_seconds=5) as connection:
                if topic not in connection.metadata().topics:
                    return True
                connection.delete_topic(topic)
        except (WireError, OSError):
            time.sleep(0.05)
    return False


def read_logs_patiently(bootstrap: str, address: Address,
                        places: Sequence[Place]) -> dict[Place, list[tuple[int, bytes, int]]]:
    """As read_logs, while parts die."""
    deadline = time.monotonic() + LIFE_SIGN_SECONDS
    while True:
        try:
            return read_logs(bootstrap, address, places)
        except (WireError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_logs(bootstrap: str, address: Address, places: Sequence[Place],
              timeout_seconds: float = 30) -> dict[Place, list[tuple[int, bytes, int]]]:
    """The whole logs of partitions as (offset, value, timestamp), from 0 to the end offsets of now."""
    with WireConnection(address) as connection:
        missing = sum(connection.list_offset(*place) for place in places)
    logs: dict[Place, list[tuple[int, bytes, int]]] = {place: [] for place in places}
    consumer = Consumer(consumer_settings(bootstrap))
    try:
        consumer.assign([TopicPartition(*place, 0) for place in places])
        deadline = time.monotonic() + timeout_seconds
        while missing > 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{missing} records could not be read within {timeout_seconds:g} s")
            for message in consumer.consume(5000, timeout=0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                record = (message.offset(), message.value(), message.timestamp()[1])
                logs[message.topic(), message.partition()].append(record)
                missing -= 1
    finally:
        consumer.close()
    return logs

"""A steady load for tests that look at one death: writers and readers with one ledger.

`impatient` clients do not retry at all: any error an answer carries becomes a violation.
Runs in: the test process.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.crash.clients import Client, Reader, Writer, consumer_settings, producer_settings, read_logs
from tests.crash.ledger import Ledger, TopicPartition
from tests.crash.node import Node


def impatient(settings: dict[str, object]) -> dict[str, object]:
    """No second attempt, and an answer within seconds."""
    return settings | {"enable.idempotence": False, "acks": "all", "retries": 0, "message.timeout.ms": 5000}


class Load:
    """Call `writer` and `reader`, then use as `with load.running():`."""

    def __init__(self, node: Node) -> None:
        self.ledger = Ledger()
        self.writers: list[Writer] = []
        self.readers: list[Reader] = []
        self._node = node

    def writer(self, places: Sequence[TopicPartition], *, patient: bool = True,
               records_per_second: float = 300) -> Writer:
        number = len(self.writers)
        settings = producer_settings(self._node.bootstrap, idempotent=patient)
        writer = Writer(number, self.ledger, settings if patient else impatient(settings), places, number,
                        records_per_second)
        self.writers.append(writer)
        return writer

    def reader(self, name: str, places: Sequence[TopicPartition]) -> Reader:
        reader = Reader(name, self.ledger, self._node.bootstrap, places, 0)
        self.readers.append(reader)
        return reader

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ends them in order and fails with every violation; the broker must be up at the end."""
        clients: list[Client] = [*self.writers, *self.readers]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            for client in clients:
                client.tell_to_end()
            for client in clients:
                client.join(60)
        self.check()

    def check(self) -> None:
        assert not self.ledger.violations, "\n".join(self.ledger.violations)

    def judge(self) -> None:
        """Read everything back and compare."""
        for place, records in read_logs(self._node.bootstrap, self._node.address, self.ledger.places).items():
            self.ledger.judge(place, records)
        self.check()


__all__ = ["Load", "consumer_settings", "impatient"]

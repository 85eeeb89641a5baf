"""One link between two processes, made as the supervisor makes it."""
from __future__ import annotations

from storage.ipc.contexts import Doorbells
from storage.ipc.layout import ControlLayout
from storage.ipc.partition_table import PartitionTable
from storage.ipc.region import create_control_region
from storage.ipc.ring import (
    CompletionConsumer,
    CompletionProducer,
    RingLink,
    SubmissionConsumer,
    SubmissionProducer,
    open_front_end_rings,
    open_storage_rings,
)


class Link:
    """A control region of one storage process and its link."""

    def __init__(self) -> None:
        self.layout = ControlLayout(1)
        self.region = create_control_region(self.layout)
        self.ring = RingLink(self.region, self.layout, 0)
        self.generation = 0
        self.doorbells = Doorbells.create()
        self.renew()

    def renew(self) -> None:
        """The next generation."""
        self.generation += 1
        self.doorbells.close()
        self.doorbells = Doorbells.create()
        self.ring.reset(self.generation)

    def front_end(self) -> tuple[SubmissionProducer, CompletionConsumer]:
        return open_front_end_rings(self.ring, self.doorbells.submissions, self.doorbells.completions,
                                    self.generation)

    def storage(self) -> tuple[SubmissionConsumer, CompletionProducer]:
        return open_storage_rings(self.ring, self.doorbells.submissions, self.doorbells.completions,
                                  self.generation)

    def table(self) -> PartitionTable:
        return PartitionTable(self.region, self.layout)


def submission(number: int) -> tuple[int, ...]:
    """All fields of an APPEND that follow from its number, so that any mix-up shows."""
    low = number & 0x7FFF_FFFF
    return (1, number & 0xFF, number >> 3 & 0xFF, low, low ^ 0x55AA, low, number, number << 12, low >> 1,
            low ^ 0x0F0F, -number, number * 3)


def completion(number: int, kind: int = 1) -> tuple[int, ...]:
    """All fields of a completion that follow from its number."""
    low = number & 0x7FFF_FFFF
    return (kind, number & 0xFF, number & 0x7FFF, low, low ^ 1, low ^ 2, number, number + 1, number + 2,
            number + 3, -number, -1, number << 8, number + 5, low ^ 3, low ^ 4, number << 12, low ^ 5, -low,
            -number * 7)

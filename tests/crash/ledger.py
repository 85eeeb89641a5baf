"""What a round knows: what was sent, what was acknowledged, what consumers saw, and what is wrong with it.

The rules (issue 3, section 9): every acknowledged record is in the log at the offset that the acknowledgement
named; of an idempotent producer exactly once and in order, nothing left out; of another one at least once;
no consumer ever saw a record that the final log does not have at that offset.
Runs in: the test process; client threads write, each under the lock; `judge` is called when they have ended.
"""
from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from typing import NamedTuple

from tests.crash.values import Stamp, parse_value

VIOLATIONS_KEPT = 30
VIOLATIONS_OF_A_KIND = 3
TopicPartition = tuple[str, int]


class Seen(NamedTuple):
    """One record as some consumer saw it first."""

    value: bytes
    timestamp_ms: int
    reader: str


class Ledger:
    """violations: sentences, the first ones; timeline: what happened when, in seconds of the round."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.timeline: list[str] = []
        self.idempotent: set[int] = set()
        self._sent: Counter[tuple[TopicPartition, int]] = Counter()
        self._acked: defaultdict[TopicPartition, list[tuple[int, Stamp]]] = defaultdict(list)
        self._seen: defaultdict[TopicPartition, dict[int, Seen]] = defaultdict(dict)
        self._kinds: Counter[str] = Counter()
        self._started = time.monotonic()
        self._lock = threading.Lock()

    # While the round runs

    def note(self, text: str) -> None:
        with self._lock:
            self.timeline.append(f"{time.monotonic() - self._started:7.3f} {text}")

    def violate(self, text: str, kind: str = "") -> None:
        """kind: of the same, only the first ones are kept."""
        with self._lock:
            self._kinds[kind] += bool(kind)
            if len(self.violations) >= VIOLATIONS_KEPT or self._kinds[kind] > VIOLATIONS_OF_A_KIND:
                return
            self.violations.append(text)
        self.note(f"VIOLATION {text}")

    def sent(self, stamp: Stamp) -> None:
        self._sent[(stamp.topic, stamp.partition), stamp.producer] += 1

    def acked(self, stamp: Stamp, offset: int) -> None:
        with self._lock:
            self._acked[stamp.topic, stamp.partition].append((offset, stamp))

    def saw(self, reader: str, place: TopicPartition, offset: int, value: bytes, timestamp_ms: int) -> None:
        """A consumer's record; compared with what any consumer saw at that offset before."""
        with self._lock:
            known = self._seen[place].setdefault(offset, Seen(value, timestamp_ms, reader))
        if known.value != value or known.timestamp_ms != timestamp_ms:
            self.violate(f"{_at(place, offset)}: {reader} saw {value[:60]!r} ({timestamp_ms}), {known.reader} "
                         f"had seen {known.value[:60]!r} ({known.timestamp_ms})", f"changed {place}")

    def seen_end(self, place: TopicPartition) -> int:
        """One more than the largest offset seen, 0 if none was."""
        with self._lock:
            return max(self._seen[place], default=-1) + 1

    def unseen(self) -> list[tuple[TopicPartition, int]]:
        """Acknowledged offsets that no consumer saw yet."""
        with self._lock:
            return [(place, offset) for place, acks in self._acked.items() for offset, _ in acks
                    if offset not in self._seen[place]]

    @property
    def acked_count(self) -> int:
        with self._lock:
            return sum(map(len, self._acked.values()))

    @property
    def sent_count(self) -> int:
        return sum(self._sent.values())

    @property
    def places(self) -> list[TopicPartition]:
        return sorted({place for place, _ in self._sent})

    # When it has ended

    def judge(self, place: TopicPartition, records: list[tuple[int, bytes, int]]) -> None:
        """records: the final log of a partition from offset 0, as (offset, value, timestamp)."""
        by_offset = {offset: (value, timestamp_ms) for offset, value, timestamp_ms in records}
        if [offset for offset, _, _ in records] != list(range(len(records))):
            self.violate(f"{_at(place)}: offsets are not 0..{len(records) - 1}")
        stamps = self._stamps(place, records)
        self._judge_acked(place, stamps)
        self._judge_idempotent(place, stamps)
        for offset, seen in self._seen[place].items():
            if by_offset.get(offset) != (seen.value, seen.timestamp_ms):
                self.violate(f"{_at(place, offset)}: {seen.reader} saw {seen.value[:60]!r} ({seen.timestamp_ms}), "
                             f"the log holds {str(by_offset.get(offset))[:90]}", f"seen {place}")

    def _stamps(self, place: TopicPartition, records: list[tuple[int, bytes, int]]) -> dict[int, Stamp]:
        stamps = {}
        for offset, value, _ in records:
            try:
                stamps[offset] = stamp = parse_value(value)
            except ValueError as error:
                self.violate(f"{_at(place, offset)}: {error}")
                continue
            if (stamp.topic, stamp.partition) != place:
                self.violate(f"{_at(place, offset)}: a record for {_at((stamp.topic, stamp.partition))}")
        return stamps

    def _judge_acked(self, place: TopicPartition, stamps: dict[int, Stamp]) -> None:
        present = set(stamps.values())
        for offset, stamp in self._acked[place]:
            if offset >= 0 and stamps.get(offset) != stamp:
                self.violate(f"{_at(place, offset)}: acknowledged for {stamp}, the log holds {stamps.get(offset)}",
                             f"acked {place}")
            elif stamp not in present:
                self.violate(f"{_at(place)}: acknowledged without an offset and not in the log: {stamp}",
                             f"acked {place}")

    def _judge_idempotent(self, place: TopicPartition, stamps: dict[int, Stamp]) -> None:
        sequences: defaultdict[int, list[int]] = defaultdict(list)
        for _, stamp in sorted(stamps.items()):
            sequences[stamp.producer].append(stamp.sequence)
        for producer in sorted(self.idempotent):
            sent = self._sent[place, producer]
            found = sequences.get(producer, [])
            if found != list(range(sent)):
                self.violate(f"{_at(place)}: producer {producer} sent 0..{sent - 1}, {_difference(found, sent)}")


def _difference(found: list[int], sent: int) -> str:
    counts = Counter(found)
    missing = [number for number in range(sent) if not counts[number]]
    repeated = [number for number, count in counts.items() if count > 1]
    if missing or repeated:
        return f"missing {len(missing)}: {missing[:10]}, repeated {len(repeated)}: {repeated[:10]}"
    first = next(index for index, number in enumerate(found) if number != index)
    return f"out of order from {found[max(first - 2, 0):first + 5]}"


def _at(place: TopicPartition, offset: int | None = None) -> str:
    name = f"{place[0]}-{place[1]}"
    return name if offset is None else f"{name} offset {offset}"

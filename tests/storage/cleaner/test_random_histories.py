"""Random logs, compacted at random moments, against a model that keeps every record.

Below the end of what has been cleaned, exactly the latest committed value of each key is left, under its own
offset; above, everything. A tombstone may be gone only after its time. The log's end, its producers and its
transactions are what they were, also after a restart.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.log.log_config import LogConfig
from storage.record.records import Producer
from tests.storage.cleaner.cleaning_worlds import SHARE, bases, clean, cleanable, contents, headers, leftovers, put
from tests.storage.log.worlds import NOW_MS, World, append_marker, new_world

RETENTION_MS = 1000
CONFIG = LogConfig(compact=True, delete=False, segment_size_bytes=700, index_interval_bytes=100,
                   delete_retention_ms=RETENTION_MS)

KEY = st.sampled_from([b"a", b"b", b"c", b"d", b"long" * 20])
VALUE = st.one_of(st.none(), st.binary(max_size=30))
BATCH = st.lists(st.tuples(KEY, VALUE), min_size=1, max_size=5)
STEP = st.one_of(
    st.tuples(st.just("put"), BATCH, st.sampled_from([0, 1, 2, 3, 4])),
    st.tuples(st.just("transaction"), BATCH, st.integers(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("roll")),
    st.tuples(st.just("clean"), st.integers(0, 2 * RETENTION_MS), st.sampled_from([5, 12, 1000])),
    st.tuples(st.just("expire")),
    st.tuples(st.just("reopen")),
)


@dataclass
class Model:
    """records: offset -> (key, value). aborted: offsets that no committed reader sees. seen_ms: of a tombstone,
    when a cleaning first met it as its key's latest."""

    records: dict[int, tuple[bytes, bytes | None]] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)
    open: dict[int, list[int]] = field(default_factory=dict)
    seen_ms: dict[int, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def latest(self, end: int) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for offset, (key, _) in sorted(self.records.items()):
            if offset < end and offset not in self.aborted:
                found[key] = offset
        return found


class History:
    def __init__(self, path: Path) -> None:
        self.world: World = new_world(path, **{name: getattr(CONFIG, name) for name in CONFIG.__slots__})
        self.log = self.world.new_log()
        self.model = Model()
        self.sequences = {0: 0, 1: 0}
        self.now_ms = NOW_MS
        self.checkpoint = 0

    def put(self, batch: list[tuple[bytes, bytes | None]], codec: int) -> None:
        self._remember(put(self.log, *batch, codec=codec), batch)

    def transaction(self, batch: list[tuple[bytes, bytes | None]], producer_id: int) -> None:
        producer = Producer(producer_id, 0, self.sequences[producer_id])
        base = put(self.log, *batch, producer=producer, transactional=True)
        self.sequences[producer_id] += len(batch)
        self.model.open.setdefault(producer_id, []).extend(self._remember(base, batch))

    def _remember(self, base: int, batch: list[tuple[bytes, bytes | None]]) -> range:
        self.model.records.update(enumerate(batch, base))
        return range(base, base + len(batch))

    def end(self, producer_id: int, commit: bool) -> None:
        offsets = self.model.open.pop(producer_id, None)
        if offsets is None:
            return
        append_marker(self.log, Producer(producer_id, 0, 0), commit=commit)
        if not commit:
            self.model.aborted.update(offsets)

    def roll(self) -> None:
        self.log.roll(self.now_ms)

    def expire(self) -> None:
        """Of those that have nothing open, all are forgotten: their empty batches may go."""
        self.log.remove_expired_producers(NOW_MS + 10**12)
        for producer_id in set(self.sequences) - set(self.log.producer_state.producers):
            self.sequences[producer_id] = 0

    def reopen(self) -> None:
        """As after a kill: everything is read again."""
        end, producers = self.log.log_end_offset, dict(self.log.producer_state.producers)
        starts = self.log.first_unstable_offset
        epoch = self.log.leader_epoch
        self.world.reopen()
        self.log = self.world.log()
        self.log.become_leader(epoch)
        assert self.log.log_end_offset == end
        self.log.on_high_watermark_updated(end)
        if starts >= 0 and self.model.open:
            assert self.log.first_unstable_offset == min(offsets[0] for offsets in self.model.open.values())
        here = self.log.producer_state.producers
        # A producer forgotten above may come back with the batches that are still there.
        for producer_id, entry in producers.items():
            assert here[producer_id].producer_epoch == entry.producer_epoch
            if entry.batches:
                assert here[producer_id].last_sequence == entry.last_sequence
        for producer_id, entry in here.items():
            self.sequences[producer_id] = entry.last_sequence + 1

    def clean(self, passed_ms: int, slots: int) -> None:
        self.now_ms += passed_ms
        look = cleanable(self.log, self.checkpoint)
        if look.first_uncleanable_offset <= look.first_dirty_offset:
            return
        end = self.log.log_end_offset
        self.checkpoint = clean(self.log, self.checkpoint, now_ms=self.now_ms,
                                share=SHARE._replace(map_size_bytes_max=24 * slots)).end_offset
        assert self.log.log_end_offset == end
        self.check()

    def check(self) -> None:
        model, found = self.model, {offset: (key, value) for offset, key, value in contents(self.log)}
        latest = model.latest(self.checkpoint)
        for key, offset in latest.items():
            if model.records[offset][1] is not None:
                assert found.get(offset) == model.records[offset], (key, offset)
            elif offset in found:
                assert offset not in model.gone
                model.seen_ms.setdefault(offset, self.now_ms)
            else:
                assert offset in model.gone or self.now_ms >= model.seen_ms[offset] + RETENTION_MS
                model.gone.add(offset)
        assert found.keys() <= {*latest.values(), *(each for each in model.records if each >= self.checkpoint)}
        for offset in (each for each in model.records if each >= self.log.segments[-1].base_offset):
            assert found[offset] == model.records[offset]
        spans = [(header.base_offset, header.last_offset) for header in headers(self.log)]
        assert all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))
        assert bases(self.log)[0] == 0
        assert leftovers(self.log) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_a_compacted_log_holds_exactly_the_latest_value_of_each_key(steps: list[tuple[object, ...]]) -> None:
    with TemporaryDirectory() as directory:
        history = History(Path(directory))
        for name, *arguments in steps:
            getattr(history, str(name))(*arguments)
        history.roll()
        for producer_id in list(history.model.open):
            history.end(producer_id, False)
        history.clean(0, 1000)
        history.reopen()
        history.check()

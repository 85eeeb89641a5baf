"""Producer state out of snapshots and scans: at load and after truncation.

Runs in: storage (writer thread or a loading thread). No state of its own; works on one partition's segments,
snapshots and state. The scans may run in a helper process (`Scan`); what they return is small.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage.errors import CorruptLogError
from storage.helpers.producer_updates import ProducerUpdate, unpack_updates
from storage.helpers.segment_scan import ScanStart, SegmentScan
from storage.log.failures import PASSING_ERRNOS
from storage.log.log_config import LogConfig
from storage.log.log_segment import LogSegment
from storage.log.producer_snapshot import ProducerSnapshots, encode_snapshot
from storage.log.producer_state import CompletedTxn, ProducerBatch, ProducerStateManager, is_expired
from storage.record.control import CONTROL_ABORT

RECALL_BYTES_MAX: Final = 8 << 20
"""More than five requests in flight of the usual size; some 10 ms of header walking at 16 KB a batch."""

# storage.helpers.segment_scan.scan_segment, or something that has a helper process call it.
Scan = Callable[..., SegmentScan]
# (path, sentence) of something found and dealt with that lost no batch.
Note = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class RebuildSource:
    """What a rebuild reads. segments: all of the log, ascending, trusted up to the end."""

    segments: Sequence[LogSegment]
    snapshots: ProducerSnapshots
    config: LogConfig
    scan: Scan
    note: Note


def rebuild_producer_state(state: ProducerStateManager, source: RebuildSource, *, log_start_offset: int,
                           snapshot_offset_max: int, end_offset: int, now_ms: int,
                           scans: Mapping[int, SegmentScan] | None = None,
                           recalls: bool = False) -> dict[int, list[CompletedTxn]]:
    """State as of end_offset; the transactions completed since the snapshot, by base offset of their segment.

    snapshot_offset_max: younger snapshots are removed unread. scans: of segments scanned from their start
    already. Snapshots are left for the last two segments (if passed) and for end_offset. recalls: producers
    may send again what was appended before the snapshot, see `recall_batches`.
    """
    scans = scans or {}
    offset = _load_newest_snapshot(state, source, log_start_offset, snapshot_offset_max, now_ms)
    if recalls and state.producers:
        recall_batches(state, source, offset)
    completed: dict[int, list[CompletedTxn]] = {}
    bases = [segment.base_offset for segment in source.segments]
    for segment, next_base in zip(source.segments, [*bases[1:], end_offset], strict=True):
        if next_base <= offset and segment is not source.segments[-1]:
            continue
        if segment.base_offset >= offset and segment.base_offset in bases[-2:]:
            _maybe_take_snapshot(state, source, segment.base_offset)
        if end_offset > offset:
            scan = scans.get(segment.base_offset)
            if scan is None:
                scan = _scan_headers(source, segment, max(offset, segment.base_offset))
            updates = unpack_updates(scan.producer_updates)
            completed[segment.base_offset] = apply_updates(state, updates)
        offset = max(offset, next_base)
    _maybe_take_snapshot(state, source, end_offset)
    state.commit()
    return completed


def recall_batches(state: ProducerStateManager, source: RebuildSource, snapshot_offset: int) -> None:
    """Remember up to five batches of each producer again, out of the log's last bytes before the snapshot.

    A snapshot names only a producer's last batch. A client whose five requests in flight were appended, but
    not answered before a kill, sends all of them again; with a snapshot right behind them (a roll, or the
    load after an earlier kill) the older four would look out of order, which idempotent clients do not survive.
    """
    budget = RECALL_BYTES_MAX
    for segment in reversed([each for each in source.segments if each.base_offset < snapshot_offset]):
        first = segment.find_batch(snapshot_offset)
        end_position = segment.log.size_bytes if first is None else first.position
        position = segment.boundary_before(end_position - budget)
        scan = source.scan(segment.log.path, position, segment.base_offset, source.config.index_interval_bytes,
                           start=ScanStart(next_offset=segment.base_offset), verify_crc=False)
        for update in reversed(list(unpack_updates(scan.producer_updates))):
            if update.last_offset < snapshot_offset and not update.is_control:
                state.recall_batch(update.producer_id, update.producer_epoch, ProducerBatch(
                    update.first_sequence, update.last_sequence, update.first_offset, update.last_offset,
                    update.timestamp))
        budget -= end_position
        if budget <= 0:
            return


def apply_updates(state: ProducerStateManager, updates: Iterable[ProducerUpdate]) -> list[CompletedTxn]:
    """Replay what a scan found, in its order; the transactions that it completes."""
    completed = []
    for update in updates:
        if not update.is_control:
            state.append_batch(update.producer_id, update.producer_epoch, update.first_sequence,
                               update.last_sequence, update.first_offset, update.last_offset,
                               update.timestamp, update.is_transactional)
            continue
        txn = state.append_marker(update.producer_id, update.producer_epoch, update.coordinator_epoch,
                                  update.control_type == CONTROL_ABORT, update.last_offset, update.timestamp)
        if txn is not None:
            completed.append(txn)
    return completed


def _maybe_take_snapshot(state: ProducerStateManager, source: RebuildSource, offset: int) -> None:
    """On a full disk there is none: the next start replays more. Restarts and truncations need no room."""
    try:
        take_snapshot(state, source.snapshots, offset)
    except OSError as error:
        if error.errno not in PASSING_ERRNOS:
            raise
        source.note(source.snapshots.path(offset), f"no producer snapshot: {error}")


def take_snapshot(state: ProducerStateManager, snapshots: ProducerSnapshots, offset: int) -> bool:
    """Unless there is one at this offset or a later one, or the log begins here.

    Not synced: if it is torn by a power cut an older one is taken and more is replayed.
    """
    latest = snapshots.offsets[-1] if snapshots.offsets else 0
    if offset <= latest:
        return False
    snapshots.write(offset, encode_snapshot(state.producers), sync=False)
    return True


def _load_newest_snapshot(state: ProducerStateManager, source: RebuildSource, log_start_offset: int,
                          offset_max: int, now_ms: int) -> int:
    """Fill `state` from the newest readable snapshot in (log_start_offset, offset_max]; its offset.

    Without one the state is empty and the answer log_start_offset. Snapshots outside that range and torn
    ones are removed; producers silent for too long are dropped.
    """
    snapshots = source.snapshots
    for offset in list(snapshots.offsets):
        if not log_start_offset < offset <= offset_max:
            snapshots.remove(offset)
    while snapshots.offsets:
        offset = snapshots.offsets[-1]
        try:
            producers = snapshots.read(offset)
        except CorruptLogError as error:
            source.note(error.path, f"{error.what}; removed, the next older one is used")
            snapshots.remove(offset)
            continue
        expiration_ms = source.config.producer_id_expiration_ms
        state.load({producer_id: entry for producer_id, entry in producers.items()
                    if not is_expired(entry, now_ms, expiration_ms)})
        return offset
    state.clear()
    return log_start_offset


def _scan_headers(source: RebuildSource, segment: LogSegment, offset: int) -> SegmentScan:
    """Walk the trusted segment from the batch that holds `offset`; checksums are not looked at."""
    first = segment.find_batch(offset)
    position = segment.log.size_bytes if first is None else first.position
    start = ScanStart(next_offset=segment.base_offset if first is None else first.base_offset)
    scan = source.scan(segment.log.path, position, segment.base_offset, source.config.index_interval_bytes,
                       start=start, verify_crc=False)
    if scan.invalid_size_bytes:
        raise CorruptLogError(segment.log.path, scan.valid_end_position, scan.stop_what)
    return scan

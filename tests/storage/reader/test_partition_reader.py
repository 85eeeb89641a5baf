"""Look-ups in a partition's directory, compared with walking everything; and files that change underneath."""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import struct
from collections.abc import Callable

import pytest

from storage.errors import CorruptLogError, OffsetOutOfRangeError
from storage.reader import FilePool, Location, PartitionReader, SegmentsChangedError
from storage.reader.segment_reader import AbortedTransaction
from storage.record.batch import BATCH_OVERHEAD
from tests.storage.reader.partition_files import TIME, PartitionFiles
from tests.storage.record.golden import BATCHES


@pytest.fixture
def files(tmp_path: pathlib.Path) -> PartitionFiles:
    files = PartitionFiles(str(tmp_path / "topic-0"))
    files.add_segment(100, [3, 1, 5, 2] * 10)
    files.add_segment(400, [1] * 40, offset_gap=3)
    files.add_segment(700, [10, 20, 1, 1, 7] * 6)
    return files


@pytest.fixture
def reader(files: PartitionFiles) -> PartitionReader:
    reader = PartitionReader(files.path)
    assert reader.refresh(2)
    return reader


class Version:
    """Storage's live word; moves after so many reads if told to."""

    def __init__(self, value: int = 2) -> None:
        self.value = value
        self.moves_after: int | None = None

    def __call__(self) -> int:
        if self.moves_after is not None:
            if self.moves_after == 0:
                self.value += 2
                self.moves_after = None
            else:
                self.moves_after -= 1
        return self.value


class TestLocate:
    def test_every_offset_is_found_where_a_full_walk_finds_it(self, files: PartitionFiles,
                                                             reader: PartitionReader) -> None:
        for offset in range(100, files.end_offset):
            assert reader.locate(offset, *files.end) == files.expected_location(offset)

    def test_without_index_files_it_is_only_slower(self, files: PartitionFiles, reader: PartitionReader) -> None:
        for base in files.segments:
            os.unlink(files.name(base, ".index"))
        for offset in range(100, files.end_offset, 7):
            assert reader.locate(offset, *files.end) == files.expected_location(offset)

    def test_readable_end_is_given_back_at_and_beyond_it(self, files: PartitionFiles,
                                                        reader: PartitionReader) -> None:
        for offset in (files.end_offset, files.end_offset + 5):
            assert reader.locate(offset, *files.end) == (700, files.end_position)

    def test_readable_end_in_the_middle_hides_what_follows(self, files: PartitionFiles,
                                                          reader: PartitionReader) -> None:
        middle = files.batches[20]
        end = (middle.base_offset, middle.segment, middle.position)
        for offset in range(100, middle.base_offset):
            assert reader.locate(offset, *end) == files.expected_location(offset)
        assert reader.locate(middle.base_offset, *end) == (middle.segment, middle.position)
        os.truncate(files.name(100, ".log"), middle.position)
        assert reader.locate(middle.base_offset - 1, *end) == files.batches[19][:2]

    def test_offset_in_a_gap_between_segments_is_the_next_segments_first_batch(
            self, files: PartitionFiles, reader: PartitionReader) -> None:
        assert reader.locate(399, *files.end) == (400, 0)
        assert reader.locate(690, *files.end) == (700, 0)

    def test_offset_below_the_first_segment(self, files: PartitionFiles, reader: PartitionReader) -> None:
        with pytest.raises(OffsetOutOfRangeError):
            reader.locate(99, *files.end)

    def test_readable_end_in_a_segment_whose_roll_was_missed(self, files: PartitionFiles,
                                                            reader: PartitionReader) -> None:
        files.add_segment(2000, [1])
        assert reader.locate(2000, 2001, 2000, files.end_position) == (2000, 0)
        assert reader.segments == [100, 400, 700, 2000]

    def test_readable_end_in_a_segment_that_is_not_there(self, files: PartitionFiles,
                                                        reader: PartitionReader) -> None:
        with pytest.raises(SegmentsChangedError):
            reader.locate(2000, 2001, 2000, 10)

    def test_known_roll_adds_a_segment(self, files: PartitionFiles, reader: PartitionReader) -> None:
        files.add_segment(2000, [1, 1])
        reader.add_segment(2000)
        reader.add_segment(2000)
        assert reader.segments_from(401) == [700, 2000]
        assert reader.locate(2001, *files.end) == files.expected_location(2001)

    def test_empty_partition(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "empty-0"))
        files.add_segment(0, [])
        reader = PartitionReader(files.path)
        assert reader.refresh(0)
        assert reader.locate(0, 0, 0, 0) == (0, 0)

    def test_old_message_formats(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "old-0"), interval=20)
        v1 = BATCHES["v1-snappy"].replace(struct.pack(">q", 44), struct.pack(">q", 47), 1)
        data = BATCHES["v0-none"] + v1
        pathlib.Path(files.name(42, ".log")).write_bytes(data)
        reader = PartitionReader(files.path)
        reader.refresh(0)
        assert [reader.locate(offset, 48, 42, len(data)).position for offset in range(42, 48)] == [
            0, 30, 58, 84, 84, 84]
        header = reader.batch_header_at(42, 84, len(data))
        assert (header.magic, header.last_offset, header.size_bytes) == (1, 47, len(v1))

    def test_random_partitions(self, tmp_path: pathlib.Path) -> None:
        seed = random.randrange(1 << 32)
        print("seed", seed)
        choose = random.Random(seed)
        files = PartitionFiles(str(tmp_path / "random-0"), interval=choose.choice([0, 100, 1000]))
        for _ in range(3):
            files.add_segment(files.end_offset + choose.randrange(5), [choose.randrange(1, 5) for _ in range(50)],
                              offset_gap=choose.randrange(3), value_size_bytes=choose.choice([0, 200]))
        reader = PartitionReader(files.path, max_open_segments=1)
        reader.refresh(0)
        for offset in range(files.batches[0].base_offset, files.end_offset):
            assert reader.locate(offset, *files.end) == files.expected_location(offset)


class TestSpoiltIndexes:
    """Entries have no checksum: what they say is tried, not believed."""

    def spoil(self, files: PartitionFiles, suffix: str, change: Callable[[bytearray, random.Random], None],
              seed: int) -> PartitionReader:
        draw = random.Random(seed)
        for base in files.segments:
            data = bytearray(pathlib.Path(files.name(base, suffix)).read_bytes())
            if data:
                change(data, draw)
            pathlib.Path(files.name(base, suffix)).write_bytes(data)
        reader = PartitionReader(files.path)
        assert reader.refresh(2)
        return reader

    @staticmethod
    def scribble(data: bytearray, draw: random.Random) -> None:
        for _ in range(3):
            data[draw.randrange(len(data))] ^= draw.randint(1, 255)

    @staticmethod
    def randomize(data: bytearray, draw: random.Random) -> None:
        data[:] = draw.randbytes(len(data))

    @staticmethod
    def zero(data: bytearray, _: random.Random) -> None:
        data[:] = bytes(len(data))

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("change", ["scribble", "randomize", "zero"])
    def test_no_record_is_hidden_by_an_offset_index_that_lies(self, files: PartitionFiles, change: str,
                                                              seed: int) -> None:
        reader = self.spoil(files, ".index", getattr(self, change), seed)
        for offset in range(100, files.end_offset):
            assert reader.locate(offset, *files.end) == files.expected_location(offset), f"seed {seed}"

    def test_an_entry_that_leads_behind_the_wanted_batch_is_passed_over(self, files: PartitionFiles) -> None:
        wanted, behind = files.batches[2], files.batches[9]
        entry = struct.pack(">ii", wanted.base_offset - 100, behind.position)
        pathlib.Path(files.name(100, ".index")).write_bytes(entry)
        reader = PartitionReader(files.path)
        reader.refresh(2)
        assert reader.locate(wanted.base_offset, *files.end) == wanted[:2]

    @pytest.mark.parametrize("change", ["randomize", "zero"])
    def test_a_time_index_of_nonsense_skips_no_segment(self, files: PartitionFiles, change: str) -> None:
        reader = self.spoil(files, ".timeindex", getattr(self, change), 1)
        for timestamp in range(TIME, TIME + files.end_offset, 9):
            candidate = reader.time_candidates(timestamp)
            first = next((batch for batch in files.batches if batch.max_timestamp >= timestamp), None)
            if first is not None:
                assert candidate is not None and candidate <= first[:2]

    def test_a_time_entry_that_names_another_batch_does_not_lead_behind_the_record(
            self, files: PartitionFiles) -> None:
        wanted = files.batches[3]
        entry = struct.pack(">qi", wanted.max_timestamp - 1, files.batches[20].base_offset - 100)
        path = pathlib.Path(files.name(100, ".timeindex"))
        path.write_bytes(entry + path.read_bytes()[-12:])
        reader = PartitionReader(files.path)
        reader.refresh(2)
        assert reader.time_candidates(wanted.max_timestamp) == (100, 0)

    def test_the_largest_timestamp_is_looked_for_in_the_log_then(self, files: PartitionFiles) -> None:
        reader = self.spoil(files, ".timeindex", self.zero, 1)
        found = reader.max_timestamp_candidate(700, files.end_position)
        assert found is not None
        assert found.timestamp == max(batch.max_timestamp for batch in files.batches)


class TestHeaders:
    def test_header_gives_size_and_last_offset(self, files: PartitionFiles, reader: PartitionReader) -> None:
        for batch in files.batches:
            header = reader.batch_header_at(batch.segment, batch.position)
            assert (header.base_offset, header.last_offset) == (batch.base_offset, batch.last_offset)

    @pytest.mark.parametrize("shift", [1, 7, 16, 60])
    def test_position_inside_a_batch_is_corrupt(self, files: PartitionFiles, reader: PartitionReader,
                                                shift: int) -> None:
        with pytest.raises(CorruptLogError):
            reader.batch_header_at(100, files.batches[3].position + shift, 4000)

    def test_batch_beyond_the_limit_is_corrupt(self, files: PartitionFiles, reader: PartitionReader) -> None:
        with pytest.raises(CorruptLogError, match="readable end"):
            reader.batch_header_at(100, 0, files.batches[1].position - 1)

    def test_position_at_the_end_of_the_file_is_corrupt(self, reader: PartitionReader) -> None:
        with pytest.raises(CorruptLogError, match="0 bytes where"):
            reader.batch_header_at(100, reader.segment_size(100))

    def test_nothing_but_headers_and_index_bytes_is_read(self, files: PartitionFiles, reader: PartitionReader,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[tuple[str, int]] = []
        pread = os.pread

        def recording_pread(fd: int, size: int, position: int) -> bytes:
            reads.append((os.readlink(f"/proc/self/fd/{fd}")[-6:], size))
            return pread(fd, size, position)

        monkeypatch.setattr(os, "pread", recording_pread)
        for offset in range(100, files.end_offset, 11):
            reader.locate(offset, *files.end)
            reader.time_candidates(TIME + offset)
        assert {size for name, size in reads if name.endswith(".log")} == {BATCH_OVERHEAD}


class TestTime:
    def first_at(self, files: PartitionFiles, timestamp: int) -> tuple[int, int] | None:
        return next((batch[:2] for batch in files.batches if batch.max_timestamp >= timestamp), None)

    def test_candidate_is_in_the_right_segment_and_not_behind_the_record(
            self, files: PartitionFiles, reader: PartitionReader) -> None:
        for timestamp in range(TIME, TIME + files.end_offset + 5):
            candidate = reader.time_candidates(timestamp)
            expected = self.first_at(files, timestamp)
            assert candidate is not None
            if expected is not None:
                assert candidate.segment_base == expected[0]
                assert candidate.position <= expected[1] < candidate.position + 1000
            else:
                assert candidate.segment_base == 700

    def test_position_is_a_batch_boundary_at_or_after_the_starting_offset(
            self, files: PartitionFiles, reader: PartitionReader) -> None:
        candidate = reader.time_candidates(TIME, starting_offset=200)
        assert candidate is not None
        assert candidate in [batch[:2] for batch in files.batches]
        assert candidate.position > 0

    def test_segments_below_the_starting_offset_do_not_count(self, reader: PartitionReader) -> None:
        candidate = reader.time_candidates(0, starting_offset=450)
        assert candidate is not None and candidate.segment_base == 400

    def test_next_candidate_after_a_segment_without_a_match(self, reader: PartitionReader) -> None:
        assert reader.time_candidates(TIME, after_base=100) == (400, 0)
        assert reader.time_candidates(TIME, after_base=700) is None

    def test_times_out_of_order_between_segments(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "t-0"))
        files.add_segment(0, [1] * 4, times=[1, 500, 2, 3])
        files.add_segment(10, [1] * 4, times=[4, 5, 6, 7])
        reader = PartitionReader(files.path)
        reader.refresh(0)
        assert reader.time_candidates(TIME + 400) == (0, 0)
        assert reader.time_candidates(TIME + 501) == (10, 0)

    def test_sealed_segment_without_timestamps_counts_by_its_mtime(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "t-0"))
        files.add_segment(0, [1] * 4, times=[-TIME - 1] * 4)
        files.add_segment(10, [1] * 4)
        os.utime(files.name(0, ".log"), ns=(TIME * 1_000_000, TIME * 1_000_000))
        reader = PartitionReader(files.path)
        reader.refresh(0)
        assert reader.time_candidates(TIME) == (0, 0)
        assert reader.time_candidates(TIME + 1) == (10, 0)

    def test_largest_timestamp_beyond_the_last_index_entry(self, files: PartitionFiles,
                                                          reader: PartitionReader) -> None:
        found = reader.max_timestamp_candidate(700, files.end_position)
        assert found is not None
        assert found.timestamp == max(batch.max_timestamp for batch in files.batches)
        assert found.segment_base == 700 and found.position <= files.batches[-1].position

    def test_largest_timestamp_in_an_older_segment(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "t-0"))
        files.add_segment(0, [1] * 30, times=[*range(29), 999])
        files.add_segment(30, [1] * 30)
        reader = PartitionReader(files.path)
        reader.refresh(0)
        found = reader.max_timestamp_candidate(30, files.end_position)
        assert found is not None and found[:2] == (TIME + 999, 0)
        assert 0 < found.position <= files.batches[29].position

    def test_no_timestamps_at_all(self, tmp_path: pathlib.Path) -> None:
        files = PartitionFiles(str(tmp_path / "t-0"))
        files.add_segment(0, [1] * 4, times=[-TIME - 1] * 4)
        reader = PartitionReader(files.path)
        reader.refresh(0)
        assert reader.max_timestamp_candidate(0, files.end_position) is None


class TestAbortedTransactions:
    @pytest.fixture
    def reader(self, files: PartitionFiles) -> PartitionReader:
        files.add_aborted(100, [(1, 100, 120, 110), (2, 110, 130, 131)])
        files.add_aborted(700, [(3, 420, 710, 705), (1, 705, 720, 721)])
        reader = PartitionReader(files.path)
        reader.refresh(0)
        return reader

    @pytest.mark.parametrize(("fetch_offset", "end_offset", "expected"), [
        (100, 105, [(1, 100)]),
        (100, 115, [(1, 100), (2, 110)]),
        (121, 125, [(2, 110)]),
        (131, 140, []),
        (131, 500, [(3, 420)]),
        (450, 706, [(3, 420), (1, 705)]),
        (711, 900, [(1, 705)]),
        (721, 900, []),
    ])
    def test_overlap_with_the_fetched_range(self, reader: PartitionReader, fetch_offset: int, end_offset: int,
                                            expected: list[tuple[int, int]]) -> None:
        found = reader.aborted_transactions(fetch_offset, end_offset)
        assert found == [AbortedTransaction(*entry) for entry in expected]

    def test_index_that_appears_later_is_seen(self, files: PartitionFiles, reader: PartitionReader) -> None:
        assert reader.aborted_transactions(400, 415) == []
        files.add_aborted(400, [(9, 410, 430, 431)])
        assert reader.aborted_transactions(400, 415) == [(9, 410)]

    def test_entry_of_a_later_version(self, files: PartitionFiles, reader: PartitionReader) -> None:
        pathlib.Path(files.name(400, ".txnindex")).write_bytes(struct.pack(">hqqqq", 1, 9, 410, 430, 431))
        with pytest.raises(CorruptLogError, match="transaction index version 1"):
            reader.aborted_transactions(400, 415)

    def test_upper_bound_is_behind_the_fetched_bytes_and_not_far(self, files: PartitionFiles,
                                                                 reader: PartitionReader) -> None:
        for i, batch in enumerate(files.batches[:-1]):
            bound = reader.upper_bound_offset(batch.segment, batch.position + 1, files.end_offset)
            assert bound > batch.last_offset
            assert bound <= files.batches[min(i + 12, len(files.batches) - 1)].last_offset + 100
        assert reader.upper_bound_offset(700, files.end_position, 5555) == 5555
        assert reader.upper_bound_offset(400, reader.segment_size(400), 5555) == 700


class TestChangesUnderneath:
    """REVIEW item 8, (a) to (d), and what belongs to them."""

    def test_a_compaction_under_the_same_name_is_read_anew_under_the_new_version(
            self, files: PartitionFiles, reader: PartitionReader) -> None:
        old = reader.descriptor(100)
        hint = files.batches[5].position
        old_bytes = os.pread(old.fd, 50, hint)
        files.add_segment(100, [50, 1])
        assert not reader.refresh(3)
        assert reader.batch_header_at(100, hint).base_offset == 114, "what is open serves while names change"
        assert reader.refresh(4)
        assert os.pread(old.fd, 50, hint) == old_bytes, "a transfer under way ends with the bytes it began with"
        with pytest.raises(CorruptLogError):
            reader.batch_header_at(100, hint)
        assert reader.locate(105, *files.end) == (100, 0)
        fd = old.fd
        old.release()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_a_stale_hint_met_after_the_version_moved_is_a_change_and_no_corruption(
            self, files: PartitionFiles) -> None:
        version = Version()
        reader = PartitionReader(files.path, read_version=version)
        reader.refresh(2)
        reader.descriptor(100).release()
        os.truncate(files.name(100, ".log"), 10)
        version.value = 4
        with pytest.raises(SegmentsChangedError):
            reader.batch_header_at(100, files.batches[5].position)

    def test_b_listing_during_a_swap_is_not_believed(self, files: PartitionFiles, reader: PartitionReader) -> None:
        for base in files.segments:
            os.rename(files.name(base, ".log"), files.name(base, ".log.deleted"))
        assert not reader.refresh(3)
        assert reader.segments == [100, 400, 700]
        for base in files.segments:
            os.rename(files.name(base, ".log.deleted"), files.name(base, ".log"))
        assert reader.refresh(4)
        assert reader.segments == [100, 400, 700]

    def test_b_version_that_moves_during_the_listing_voids_it(self, files: PartitionFiles) -> None:
        version = Version()
        reader = PartitionReader(files.path, read_version=version)
        reader.refresh(2)
        os.rename(files.name(400, ".log"), files.name(400, ".log.deleted"))
        version.value = 4
        version.moves_after = 0
        assert not reader.refresh(4)
        assert (reader.segments, reader.version) == ([100, 400, 700], 2)
        assert reader.refresh(6)
        assert reader.segments == [100, 700]

    def test_b_while_the_version_is_odd_nothing_is_opened(self, files: PartitionFiles,
                                                         reader: PartitionReader) -> None:
        reader.descriptor(100).release()
        reader.refresh(3)
        reader.descriptor(100).release()
        with pytest.raises(SegmentsChangedError):
            reader.descriptor(400)

    def test_c_deleted_and_recreated_topic_is_not_read_through_the_old_reader(
            self, files: PartitionFiles) -> None:
        generation = Version()
        old = PartitionReader(files.path, read_version=generation)
        old.refresh(2)
        held = old.descriptor(100)
        held_bytes = os.pread(held.fd, 100, 0)
        os.rename(files.path, files.path + ".0123-delete")
        generation.value = -1
        new_files = PartitionFiles(files.path)
        new_files.add_segment(0, [1])
        new_files.add_segment(400, [2])
        assert os.pread(held.fd, 100, 0) == held_bytes
        for look_up in (lambda: old.descriptor(400), lambda: old.locate(500, *files.end)):
            with pytest.raises(SegmentsChangedError):
                look_up()
        held.release()
        old.close()
        new = PartitionReader(files.path)
        new.refresh(0)
        assert new.locate(400, *new_files.end) == (400, 0)

    def test_c_file_that_changed_while_it_was_opened_is_given_back(self, files: PartitionFiles) -> None:
        version = Version()
        pool = FilePool()
        reader = PartitionReader(files.path, pool, read_version=version)
        reader.refresh(2)
        version.moves_after = 1
        with pytest.raises(SegmentsChangedError, match="changed while"):
            reader.descriptor(400)
        assert pool.open_count == 0

    def test_c_file_that_vanished_under_a_new_version_is_a_change(self, files: PartitionFiles) -> None:
        version = Version()
        reader = PartitionReader(files.path, read_version=version)
        reader.refresh(2)
        os.unlink(files.name(400, ".log"))
        version.moves_after = 1
        with pytest.raises(SegmentsChangedError):
            reader.descriptor(400)
        with pytest.raises(FileNotFoundError):
            version.value = 2
            reader.descriptor(400)

    def test_c_directory_that_is_gone(self, files: PartitionFiles) -> None:
        version = Version()
        reader = PartitionReader(files.path, read_version=version)
        shutil.rmtree(files.path)
        with pytest.raises(FileNotFoundError):
            reader.refresh(2)
        version.value = -1
        assert not reader.refresh(2)

    def test_d_length_of_the_active_index_is_its_entry_count(self, files: PartitionFiles,
                                                            reader: PartitionReader) -> None:
        """Entries appear while we look: whole ones count, one being written does not."""
        index = pathlib.Path(files.name(700, ".index"))
        complete = index.read_bytes()
        for size in range(len(complete) + 1):
            index.write_bytes(complete[:size])
            for offset in (700, 740, files.end_offset - 1):
                assert reader.locate(offset, *files.end) == files.expected_location(offset)

    def test_closed_reader_answers_nothing(self, files: PartitionFiles, reader: PartitionReader) -> None:
        reader.descriptor(100).release()
        reader.close()
        assert reader.pool.open_count == 0
        with pytest.raises(SegmentsChangedError):
            reader.descriptor(100)


class TestDescriptors:
    def test_one_pool_bounds_all_partitions(self, tmp_path: pathlib.Path) -> None:
        pool = FilePool(4)
        readers = []
        for i in range(5):
            files = PartitionFiles(str(tmp_path / f"t-{i}"))
            files.add_segment(0, [1] * 20)
            reader = PartitionReader(files.path, pool)
            reader.refresh(0)
            readers.append((reader, files))
        for _ in range(3):
            for reader, files in readers:
                assert reader.locate(10, *files.end) == files.expected_location(10)
        assert pool.open_count == 4

    def test_a_pinned_descriptor_outlives_any_number_of_look_ups(self, files: PartitionFiles) -> None:
        reader = PartitionReader(files.path, max_open_segments=1)
        reader.refresh(0)
        with reader.descriptor(100) as pinned:
            for offset in range(400, files.end_offset, 10):
                reader.locate(offset, *files.end)
            assert os.fstat(pinned.fd).st_size == reader.segment_size(100)
            assert reader.descriptor(100) is pinned
            pinned.release()


def test_names_that_are_not_segments_are_ignored(files: PartitionFiles) -> None:
    for name in ("00000000000000000800.log.deleted", "800.log", "0000000000000000080x.log",
                 "00000000000000000800.log.swap", "leader-epoch-checkpoint", "x" * 20 + ".log"):
        (pathlib.Path(files.path) / name).write_bytes(b"")
    reader = PartitionReader(files.path)
    reader.refresh(0)
    assert reader.segments == [100, 400, 700]


def test_location_is_a_plain_pair() -> None:
    assert Location(1, 2) == (1, 2)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cleaner.offset_map import NOT_FOUND, SLOT_SIZE_BYTES, OffsetMap, size_bytes_for


def new_map(slots: int, load_factor: float = 1.0) -> OffsetMap:
    return OffsetMap(memoryview(bytearray(slots * SLOT_SIZE_BYTES)), load_factor)


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 2**62)), max_size=200))
def test_it_says_what_a_dict_says(puts: list[tuple[bytes, int]]) -> None:
    offsets, expected = new_map(300), dict(puts)
    assert offsets.put_all([key for key, _ in puts], [offset for _, offset in puts]) == len(puts)
    keys = [*expected, b"unknown key", None]
    assert offsets.latest_of(keys) == [*expected.values(), NOT_FOUND, NOT_FOUND]
    assert offsets.size == len(expected)


def test_keys_that_meet_in_one_slot_go_around_its_end() -> None:
    offsets = new_map(8, 1.0)
    keys = [b"%d" % number for number in range(7)]
    assert offsets.put_all(keys, range(7)) == 7
    assert offsets.latest_of(keys) == list(range(7))


def test_a_full_map_takes_no_record_with_a_key() -> None:
    offsets = new_map(10, 0.5)
    assert offsets.put_all([b"%d" % number for number in range(9)], range(9)) == 5
    assert not offsets.put(b"0", 10)
    assert offsets.put_all([None], [11]) == 1
    assert offsets.latest_of([b"0"]) == [0]
    assert offsets.utilization == 0.5


def test_one_slot_stays_free_so_that_a_search_ends() -> None:
    assert new_map(4, 1.0).capacity == 3


@pytest.mark.parametrize("slots", [0, 1])
def test_a_map_without_room_for_a_key_names_the_setting(slots: int) -> None:
    with pytest.raises(ValueError, match="log.cleaner.dedupe.buffer.size"):
        new_map(slots)


@pytest.mark.parametrize(("offsets", "limit_bytes", "slots"), [
    (900, 1 << 30, 1002), (900, 240, 10), (1, 1 << 30, 64), (10**12, 134_217_728, 5_592_405)])
def test_memory_is_bounded_by_the_setting_and_by_the_need(offsets: int, limit_bytes: int, slots: int) -> None:
    assert size_bytes_for(offsets, 0.9, limit_bytes) == slots * SLOT_SIZE_BYTES

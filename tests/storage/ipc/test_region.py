"""Regions: sparse, sealed, told apart by their header."""
from __future__ import annotations

import os

import pytest

from storage.ipc.layout import ControlLayout
from storage.ipc.region import Region, create_control_region, read_control_layout
from storage.ipc.words import Word
from tests.storage.ipc.processes import Forked


def test_a_region_costs_only_what_was_touched() -> None:
    region = Region.create("test", 1 << 36)
    assert region.resident_bytes() == 0
    region.memory[1 << 35] = 1
    assert region.resident_bytes() == 4096


def test_nobody_can_shrink_it_under_another_process() -> None:
    region = Region.create("test", 8192)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fd, 4096)


def test_a_forked_child_that_maps_it_later_sees_the_same_memory() -> None:
    region = Region.create("test", 4096)

    def write() -> None:
        region.words[7] = 42

    assert Forked(write).wait() == 0
    assert region.words[7] == 42


@pytest.mark.parametrize("size_bytes", [0, -4096, 100])
def test_a_size_that_is_no_number_of_pages_is_refused(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="not a positive number of pages"):
        Region.create("test", size_bytes)


def test_the_control_region_states_its_layout() -> None:
    region = create_control_region(ControlLayout(3))
    assert read_control_layout(region) == ControlLayout(3)


def test_a_region_without_our_magic_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with 0x0"):
        read_control_layout(Region.create("test", 4096))


def test_a_control_region_of_the_wrong_size_is_refused() -> None:
    region = create_control_region(ControlLayout(1))
    region.words[3] = 4096
    with pytest.raises(ValueError, match="states 4096"):
        read_control_layout(region)


def test_closing_the_descriptor_keeps_the_mapping() -> None:
    region = Region.create("test", 4096)
    region.memory[0] = 9
    region.close()
    region.close()
    assert region.memory[0] == 9


def test_a_word_must_be_aligned_and_seen_through_the_cast_view() -> None:
    region = Region.create("test", 4096)
    with pytest.raises(ValueError, match="byte 4"):
        Word(region.words, 4)
    with pytest.raises(ValueError, match="format 'B'"):
        Word(region.memory, 8)
    word = Word(region.words, 8)
    word.store(2**64 - 1)
    assert word.load() == 2**64 - 1

"""The map: its drawing, its alignment, its limits."""
from __future__ import annotations

import pytest

from storage.ipc import layout
from storage.ipc.layout import ControlLayout, draw


def test_the_drawing_in_the_docstring_is_drawn_from_the_constants() -> None:
    assert layout.__doc__ is not None
    assert draw() in layout.__doc__


def test_words_lie_on_cache_lines_of_their_own() -> None:
    positions = [position for _, position, _ in layout.LINK_WORDS]
    assert all(position % layout.CACHE_LINE_SIZE_BYTES == 0 for position in positions)
    assert len(set(positions)) == len(positions)


def test_links_and_tables_follow_each_other_without_a_gap_or_an_overlap() -> None:
    control = ControlLayout(storage_count=3, front_end_count=2)
    positions = [control.link_position(storage, front_end) for front_end in range(2) for storage in range(3)]
    assert positions == [layout.HEADER_SIZE_BYTES + n * layout.LINK_SIZE_BYTES for n in range(6)]
    assert control.tables_position == positions[-1] + layout.LINK_SIZE_BYTES
    assert control.identities_position == control.tables_position + 3 * 65536 * 256
    assert control.size_bytes == control.identities_position + 3 * 65536 * 32


@pytest.mark.parametrize("count", [0, -1, layout.STORAGE_COUNT_MAX + 1])
def test_an_impossible_number_of_directories_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="storage processes, allowed are 1 to 64"):
        ControlLayout(count)


def test_an_impossible_number_of_front_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="0 front ends"):
        ControlLayout(1, 0)


@pytest.mark.parametrize(("storage", "front_end"), [(1, 0), (0, 1), (-1, 0)])
def test_there_is_no_link_of_a_process_that_is_not_there(storage: int, front_end: int) -> None:
    with pytest.raises(ValueError, match="no link"):
        ControlLayout(1).link_position(storage, front_end)

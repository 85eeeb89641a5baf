"""Files of interrupted deletions, compactions and splits (on-disk facts, section 9 steps 2 and 3)."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.record.records import Producer
from tests.storage.log.worlds import World, append, file_contents, log_bytes, new_world, sized_batch


def four_segments(path: Path) -> World:
    """One batch per segment, offsets 0 to 3."""
    world = new_world(path, segment_size_bytes=500)
    append(world.new_log(), *(sized_batch(400, producer=Producer(7, 0, index)) for index in range(4)))
    return world


def rename(world: World, offset: int, old: str, new: str,
           suffixes: tuple[str, ...] = (".log", ".index")) -> None:
    for suffix in suffixes:
        base = Path(world.log().path, f"{offset:020d}{suffix}")
        Path(str(base) + old).rename(str(base) + new)


def names(world: World) -> list[str]:
    return sorted(os.listdir(world.log().path))


def bases(world: World) -> list[int]:
    return [segment.base_offset for segment in world.log().segments]


def test_deleted_files_are_removed(tmp_path: Path) -> None:
    world = four_segments(tmp_path)
    rename(world, 0, "", ".deleted")
    Path(world.log().path, f"{0:020d}.timeindex").rename(Path(world.log().path, f"{0:020d}.timeindex.deleted"))
    world.reopen()
    assert bases(world) == [1, 2, 3]
    assert not [name for name in names(world) if "deleted" in name]


def test_unfinished_cleaner_output_is_removed(tmp_path: Path) -> None:
    world = four_segments(tmp_path)
    Path(world.log().path, f"{1:020d}.log.cleaned").write_bytes(b"half a batch")
    Path(world.log().path, f"{1:020d}.index.cleaned").write_bytes(b"")
    before = log_bytes(world.log())
    world.reopen()
    assert (bases(world), log_bytes(world.log())) == ([0, 1, 2, 3], before)
    assert not [name for name in names(world) if "cleaned" in name]


def test_a_finished_swap_takes_the_place_of_what_it_covers(tmp_path: Path) -> None:
    """Segments 1 and 2 were compacted into one that begins at 1 and ends before 3."""
    world = four_segments(tmp_path)
    contents = file_contents(world.log().path)
    compacted = contents[f"{1:020d}.log"] + contents[f"{2:020d}.log"]
    Path(world.log().path, f"{1:020d}.log.swap").write_bytes(compacted)
    world.reopen()
    assert bases(world) == [0, 1, 3]
    assert log_bytes(world.log()) == b"".join(contents[f"{base:020d}.log"] for base in range(4))
    assert not [name for name in names(world) if "swap" in name or name.startswith(f"{2:020d}")]


def test_an_index_swap_left_behind_by_its_log_is_finished(tmp_path: Path) -> None:
    world = four_segments(tmp_path)
    rename(world, 1, "", ".swap", suffixes=(".index",))
    world.reopen()
    assert bases(world) == [0, 1, 2, 3]
    assert f"{1:020d}.index" in names(world)


def test_swaps_of_an_unfinished_split_are_dropped(tmp_path: Path) -> None:
    """A `.cleaned` at or below them says that the split had not got far enough."""
    world = four_segments(tmp_path)
    before = log_bytes(world.log())
    for name in (f"{2:020d}.log.swap", f"{1:020d}.log.cleaned"):
        Path(world.log().path, name).write_bytes(b"x")
    world.reopen()
    assert (bases(world), log_bytes(world.log())) == ([0, 1, 2, 3], before)


@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".txnindex"])
def test_an_index_without_its_log_is_removed(tmp_path: Path, suffix: str) -> None:
    world = four_segments(tmp_path)
    orphan = Path(world.log().path, f"{77:020d}{suffix}")
    orphan.write_bytes(bytes(24))
    world.reopen()
    assert not orphan.exists()


def test_strange_plain_files_are_left_alone(tmp_path: Path) -> None:
    world = four_segments(tmp_path)
    for name in ("notes.txt", "x.log", "README"):
        Path(world.log().path, name).write_text("hello")
    world.reopen()
    assert {"notes.txt", "x.log", "README"} <= set(names(world))

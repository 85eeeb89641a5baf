"""What disks and power cuts do to the files of a stopped node, drawn from a seed.

Two kinds: files that can be made again from the batches are spoilt at random (the records must all be served
as before); tails of logs are torn, soiled or flipped at random (what lies before the damage must be served).
Runs in: the test process; nothing else may have the directories open.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.crash.ledger import TopicPartition
from tests.crash.log_files import batch_extents, partition_paths, segment_paths

SPOILABLE = ("*.index", "*.timeindex", "*.txnindex", "*.snapshot", "leader-epoch-checkpoint")
SPOILABLE_CHECKPOINTS = ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint")
"""Not the high watermark's: a corrupt one takes the directory offline, as in Kafka."""
CRC_COVERS_FROM = 21
"""Offset and leader epoch before it are what a leader stamps; damage there is not always seen."""


class Tear(NamedTuple):
    """One torn log. next_offset: the first offset that is lost."""

    place: TopicPartition
    next_offset: int
    what: str


def hides_times(damage: Sequence[str]) -> bool:
    """Whether a time index was damaged so that what is left looks sound."""
    return any(".timeindex: " + spoil.__name__ in each for each in damage for spoil in (cut_short, scribbled))


def spoil_derived_files(log_dirs: Sequence[Path], draw: random.Random) -> list[str]:
    """Damage about half of everything that is not a record; says what."""
    paths = [path for partition in partition_paths(log_dirs) for pattern in SPOILABLE
             for path in sorted(partition.glob(pattern))]
    paths += [log_dir / name for log_dir in log_dirs for name in SPOILABLE_CHECKPOINTS]
    done = []
    for path in paths:
        if path.exists() and draw.random() < 0.5:
            spoil = draw.choice(_SPOILINGS)
            spoil(path, draw)
            done.append(f"{path.parent.name}/{path.name}: {spoil.__name__}")
    return done


def cut_short(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:draw.randint(0, len(data))])


def grown(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 100)))


def zero_padded(path: Path, draw: random.Random) -> None:
    """As Kafka's preallocated index files look after a crash."""
    path.write_bytes(path.read_bytes() + bytes(draw.randint(1, 20) * 24))


def scribbled(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 4)):
        if data:
            data[draw.randrange(len(data))] ^= draw.randint(1, 255)
    path.write_bytes(data)


def random_bytes(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(path.stat().st_size))


def zeroed(path: Path, _: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def removed(path: Path, _: random.Random) -> None:
    path.unlink()


_SPOILINGS: tuple[Callable[[Path, random.Random], None], ...] = (
    cut_short, grown, zero_padded, scribbled, random_bytes, zeroed, emptied, removed)


def tear_tails(log_dirs: Sequence[Path], draw: random.Random) -> list[Tear]:
    """Damage most partitions' logs somewhere; every one of them has records."""
    return [_tear(path, draw) for path in partition_paths(log_dirs) if segment_paths(path) and draw.random() < 0.8]


def _tear(path: Path, draw: random.Random) -> Tear:
    """Cut or soil the end of the last segment, or flip a bit in one of the last two."""
    topic, _, number = path.name.rpartition("-")
    kind = draw.choice(("cut", "garbage", "zeros", "flip"))
    log = draw.choice(segment_paths(path)[-2:]) if kind == "flip" else segment_paths(path)[-1]
    data = bytearray(log.read_bytes())
    extents = batch_extents(data)
    next_offset = extents[-1].next_offset if extents else int(log.stem)
    position = len(data)
    if kind == "flip" and extents:
        hit = draw.choice(extents)
        position = draw.randrange(hit.start + CRC_COVERS_FROM, hit.end)
        data[position] ^= 1 << draw.randrange(8)
        next_offset = hit.base_offset
    elif kind == "cut":
        position = draw.randint(0, len(data))
        next_offset = next((extent.base_offset for extent in extents if extent.end > position), next_offset)
        del data[position:]
    else:
        data += bytes(draw.randint(1, 100_000)) if kind == "zeros" else draw.randbytes(draw.randint(1, 5000))
    log.write_bytes(data)
    return Tear((topic, int(number)), next_offset, f"{path.name}/{log.name}: {kind} at {position}")

"""Random sequences of operations by several sessions, written down so that two servers can be compared.

After each step every session reads once: a server sends the events of a change before it answers a read that
could see the change, so by then each session has got all of its events. What differs by nature is made alike:
transaction ids become their ranks, session ids their numbers, times are left out.

Runs in: the test process; `play` on any clock.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import trio

from controller.metadata_store.errors import MultiError, StoreError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Check,
    Create,
    Delete,
    Exists,
    GetChildren,
    GetData,
    Multi,
    Operation,
    Request,
    SessionId,
    SetData,
    Stat,
)

SESSION_COUNT = 3
STEP_COUNT = 40
ROOT = "/t"
_PATHS = ("/t/a", "/t/b", "/t/c", "/t/a/x", "/t/a/y", "/t/b/x", "/t/a/x/p")
_PARENTS = ("/t", "/t/a", "/t/b")


class Sessions(Protocol):
    """How sessions of one server are opened and come to an end."""

    async def open(self, kept: SessionId | None) -> MetadataStore: ...

    async def abandon(self, store: MetadataStore) -> None:
        """The connection goes, the session stays."""

    async def expire(self, store: MetadataStore) -> None: ...


@dataclass(frozen=True)
class Batch:
    session: int
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Reopen:
    """kind: close or expire, then a new session; resume: the same session over a new connection."""

    session: int
    kind: str


Step = Batch | Reopen


def draw_steps(seed: int) -> list[Step]:
    draw = random.Random(seed)
    steps: list[Step] = []
    for _ in range(STEP_COUNT):
        session = draw.randrange(SESSION_COUNT)
        if draw.random() < 0.12:
            steps.append(Reopen(session, draw.choice(("close", "expire", "resume"))))
        else:
            steps.append(Batch(session, tuple(_draw_request(draw) for _ in range(draw.randint(1, 4)))))
    return steps


def _draw_request(draw: random.Random) -> Request:
    kind = draw.random()
    if kind < 0.35:
        read = draw.choice((Exists, GetData, GetChildren))
        return read(draw.choice((*_PATHS, ROOT)), draw.random() < 0.6)
    if kind < 0.5:
        return Multi(tuple(_draw_operation(draw, in_multi=True) for _ in range(draw.randint(1, 4))))
    operation = _draw_operation(draw, in_multi=False)
    assert not isinstance(operation, Check)
    return operation


def _draw_operation(draw: random.Random, *, in_multi: bool) -> Operation:
    path, version = draw.choice(_PATHS), draw.choice((-1, -1, 0, 0, 1, 2))
    kind = draw.random()
    if kind < 0.4:
        data = draw.choice((None, b"", b"one"))
        if draw.random() < 0.2:
            return Create(f"{draw.choice(_PARENTS)}/s_", data, draw.random() < 0.4, True)
        return Create(path, data, draw.random() < 0.35)
    if kind < 0.65:
        return SetData(path, draw.choice((None, b"two", b"three")), version)
    if kind < 0.9 or not in_multi:
        return Delete(path, version)
    return Check(path, version)


class _Line:
    """Something to be shown once all transaction ids are known."""

    def __init__(self, prefix: str, value: Any) -> None:
        self.prefix = prefix
        self.value = value


async def play(sessions: Sessions, steps: Sequence[Step]) -> list[str]:
    """What was answered and told, line by line. ROOT is made first."""
    stores = [await sessions.open(None) for _ in range(SESSION_COUNT)]
    numbers = {store.session.id: number for number, store in enumerate(stores)}
    await stores[0].create(ROOT)
    lines: list[_Line] = []
    for index, step in enumerate(steps):
        lines.append(_Line(f"{index} {step}", None))
        if isinstance(step, Batch):
            lines += [_Line("  ", outcome) for outcome in await stores[step.session].submit(step.requests)]
        else:
            stores[step.session] = await _reopen(sessions, stores[step.session], step.kind)
            numbers.setdefault(stores[step.session].session.id, SESSION_COUNT + index)
        for number, store in enumerate(stores):
            events = await _events(store)
            if isinstance(step, Reopen):
                events.sort()  # a session's nodes go in no promised order
            lines += [_Line(f"  to {number}: {event}", None) for event in events]
    for store in stores:
        await store.close()
    return _shown(lines, numbers)


async def _reopen(sessions: Sessions, store: MetadataStore, kind: str) -> MetadataStore:
    if kind == "resume":
        kept = store.session
        await sessions.abandon(store)
        return await sessions.open(kept)
    await (store.close() if kind == "close" else sessions.expire(store))
    return await sessions.open(None)


async def _events(store: MetadataStore) -> list[str]:
    await store.exists("/")
    seen = []
    while True:
        try:
            event = store.events.receive_nowait()
        except trio.WouldBlock:
            return seen
        seen.append(f"{event.type.value} {event.path} {event.state.value}")


def _shown(lines: Sequence[_Line], numbers: dict[int, int]) -> list[str]:
    zxids: set[int] = set()
    for line in lines:
        _walk(line.value, lambda stat: zxids.update((stat.czxid, stat.mzxid, stat.pzxid)))
    ranks = {zxid: rank for rank, zxid in enumerate(sorted(zxids))}

    def alike(stat: Stat) -> str:
        owner = f"session {numbers[stat.ephemeral_owner]}" if stat.ephemeral_owner else "nobody"
        return (f"Stat(created {ranks[stat.czxid]}, set {ranks[stat.mzxid]}, children {ranks[stat.pzxid]}, "
                f"versions {stat.version} {stat.cversion}, {owner}, {stat.data_length} bytes, "
                f"{stat.num_children} children)")

    return [line.prefix + (_text(line.value, alike) if line.value is not None else "") for line in lines]


def _walk(value: Any, on_stat: Callable[[Stat], None]) -> None:
    if isinstance(value, Stat):
        on_stat(value)
    elif isinstance(value, tuple):
        for part in value:
            _walk(part, on_stat)
    elif is_dataclass(value):
        for field in fields(value):
            _walk(getattr(value, field.name), on_stat)


def _text(value: Any, alike: Callable[[Stat], str]) -> str:
    if isinstance(value, Stat):
        return alike(value)
    if isinstance(value, MultiError):
        return f"MultiError at {value.failed_index}: {', '.join(type(part).__name__ for part in value.results)}"
    if isinstance(value, StoreError):
        return type(value).__name__
    if isinstance(value, tuple):
        parts = [_text(part, alike) for part in value]
        return f"({', '.join(sorted(parts) if all(isinstance(part, str) for part in value) else parts)})"
    if is_dataclass(value):
        parts = [_text(getattr(value, field.name), alike) for field in fields(value)]
        return f"{type(value).__name__}({', '.join(parts)})"
    return repr(value)



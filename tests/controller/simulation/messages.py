"""What a client and a simulated server say to each other. Plain data.

Runs in: the test process.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controller.metadata_store.operations import Outcome, Request, WatchEvent


class Hello(NamedTuple):
    """session_id 0: a new session. last_zxid: the newest change that the client has seen."""

    session_id: int
    password: bytes
    timeout_ms: int
    last_zxid: int


class Welcome(NamedTuple):
    session_id: int
    password: bytes
    timeout_ms: int


class Ended(NamedTuple):
    """There is no such session."""


class Submit(NamedTuple):
    number: int
    requests: Sequence[Request]


class Answer(NamedTuple):
    number: int
    outcomes: list[Outcome]
    last_zxid: int


class Fired(NamedTuple):
    event: WatchEvent
    last_zxid: int


class Ping(NamedTuple):
    pass


class Pong(NamedTuple):
    pass


class Farewell(NamedTuple):
    """End the session."""

    number: int

"""The network between nodes and servers: delays, cuts, black holes; in order within a connection, as TCP.

A `Link` is one node's way to the servers, a `Wire` one connection over it. What a cut finds under way is
lost; what a black hole swallows is sent again by TCP and arrives when it ends, even if the sender has given
the connection up by then.

Runs in: the test process. Delays are drawn from the world's generator.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import Any

from tests.controller.simulation.scheduler import Timeline

USUAL_SECONDS = (0.0005, 0.003)
SLOW_SECONDS = (0.003, 0.08)
SLOW_SHARE = 0.04
STORM_SECONDS = (0.05, 1.5)


class LinkMode(Enum):
    UP = "up"
    CUT = "cut"
    BLACK_HOLE = "black hole"


CLOSE = object()
"""Travels like a message: the end of a connection that its sender closed."""


class Link:
    """storm: everything takes long, nothing is lost."""

    def __init__(self, timeline: Timeline, draw: random.Random) -> None:
        self.timeline = timeline
        self.mode = LinkMode.UP
        self.storm = False
        self._draw = draw
        self._wires: dict[Wire, None] = {}
        self._swallowed: list[tuple[Wire, bool, Any]] = []

    def delay_seconds(self) -> float:
        if self.storm:
            return self._draw.uniform(*STORM_SECONDS)
        slow = self._draw.random() < SLOW_SHARE
        return self._draw.uniform(*(SLOW_SECONDS if slow else USUAL_SECONDS))

    @property
    def is_quick(self) -> bool:
        return self.mode is LinkMode.UP and not self.storm

    def open(self) -> Wire:
        wire = Wire(self)
        self._wires[wire] = None
        return wire

    def forget(self, wire: Wire) -> None:
        self._wires.pop(wire, None)

    def cut(self) -> None:
        """Both ends see at once that the connection is gone."""
        self.mode = LinkMode.CUT
        self._swallowed.clear()
        for wire in list(self._wires):
            wire.reset()

    def black_hole(self) -> None:
        self.mode = LinkMode.BLACK_HOLE

    def swallow(self, wire: Wire, to_server: bool, message: Any) -> None:
        self._swallowed.append((wire, to_server, message))

    def heal(self) -> None:
        self.mode = LinkMode.UP
        self.storm = False
        swallowed, self._swallowed = self._swallowed, []
        for wire, to_server, message in swallowed:
            wire.send(message, to_server=to_server)


class Wire:
    """to_server, to_client: called with each message, with CLOSE at the end."""

    def __init__(self, link: Link) -> None:
        self.to_server: Callable[[Any], None] = lambda message: None
        self.to_client: Callable[[Any], None] = lambda message: None
        self._link = link
        self._is_reset = False
        self._last_arrival = {True: 0.0, False: 0.0}

    def send(self, message: Any, *, to_server: bool) -> None:
        if self._is_reset:
            return
        if self._link.mode is LinkMode.BLACK_HOLE:
            self._link.swallow(self, to_server, message)
            return
        timeline = self._link.timeline
        arrival = max(timeline.now() + self._link.delay_seconds(), self._last_arrival[to_server])
        self._last_arrival[to_server] = arrival
        timeline.at(arrival, lambda: self._arrive(message, to_server))

    def _arrive(self, message: Any, to_server: bool) -> None:
        if self._is_reset:
            return
        if self._link.mode is LinkMode.BLACK_HOLE:
            self._link.swallow(self, to_server, message)
            return
        (self.to_server if to_server else self.to_client)(message)

    def close(self, *, by_server: bool) -> None:
        """What was sent before still arrives; the closing end hears nothing more."""
        self.send(CLOSE, to_server=not by_server)
        if by_server:
            self.to_server = lambda message: None
        else:
            self.to_client = lambda message: None

    def reset(self) -> None:
        if not self._is_reset:
            self._is_reset = True
            self._link.forget(self)
            self.to_server(CLOSE)
            self.to_client(CLOSE)

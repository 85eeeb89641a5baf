"""What happened in a simulated world, in order, as plain facts for `checks`.

The simulation writes down what an all-seeing observer saw: what the servers committed and for whom, what a
node did as the controller and what the servers knew of its session at that moment.

Runs in: the test process. Owner: the world.
"""
from __future__ import annotations

from typing import NamedTuple

DELETED = "deleted"
EXPIRED = "expired"
"""Why `/controller` went: by a request; with its session, which was not heard of in time."""


class Elected(NamedTuple):
    """The servers committed an election."""

    time: float
    node: int
    session_id: int
    epoch: int


class ControllerGone(NamedTuple):
    """`/controller` was deleted, by its session's end or by a request."""

    time: float
    why: str


class Committed(NamedTuple):
    """A change of the cluster's metadata by a node's session. holder: session that was elected last."""

    time: float
    node: int
    session_id: int
    holder: int
    paths: tuple[str, ...]


class Acted(NamedTuple):
    """A node handed over a write or a request to a broker as the controller with this epoch.

    elected_epoch: the highest that the servers had committed by then. session_has_expired: by its time-out.
    lease_ends_at: when, counting from the sending of its last answered request, they may end it.
    """

    time: float
    node: int
    epoch: int
    elected_epoch: int
    session_has_expired: bool
    lease_ends_at: float
    what: str


class FitnessChanged(NamedTuple):
    """Whether a node could lead: it runs, is registered, reaches a server that works, and all is quick."""

    time: float
    node: int
    is_fit: bool


class Mended(NamedTuple):
    """What held the node back or cut it off has ended: what it sent before may still arrive."""

    time: float
    node: int


class Noted(NamedTuple):
    """What the plan did, and everything else for a human reader."""

    time: float
    text: str


class LeaderLost(NamedTuple):
    """Something struck the node that led and does not end before the servers end its session.

    session_ends_at: the latest time at which they do.
    """

    time: float
    node: int
    session_ends_at: float
    why: str


Fact = Elected | ControllerGone | Committed | Acted | FitnessChanged | Mended | Noted | LeaderLost


class History:
    """facts: in order of time. elected: the last election, if any."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.elected: Elected | None = None

    def add(self, fact: Fact) -> None:
        if isinstance(fact, Elected):
            self.elected = fact
        self.facts.append(fact)

    def lines(self) -> list[str]:
        return [f"{fact.time:8.3f} {_text(fact)}" for fact in self.facts]


def _text(fact: Fact) -> str:
    if isinstance(fact, Noted):
        return fact.text
    fields = ", ".join(f"{name} {_shown(value)}" for name, value in zip(fact._fields[1:], fact[1:], strict=True))
    return f"{type(fact).__name__}: {fields}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:#x}" if isinstance(value, int) and value > 1 << 20 else str(value)

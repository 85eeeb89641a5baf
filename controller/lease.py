"""The controller's lease: when this node may act as the controller, as a table of states (PURE).

The lease is the ephemeral node `/controller`, held by the node's session; `/controller_epoch` counts the
holders, and every write is guarded by that node's version, so a write by a former holder fails. The
table adds the other half: a holder that cannot reach the store stops acting *before* the store could
give the lease to somebody else. Its local deadline counts from the *sending* of the last request that was
answered, on a clock that runs during suspend (CLOCK_BOOTTIME): the store restarted the session's timer no
earlier than that.

| state | meaning |
|---|---|
| STANDBY | somebody else holds the lease, or it is not known who does |
| STANDING | this node tries to take it |
| LEADING | this node holds it and acts |
| SUSPENDED | it held it when the connection went: nothing is written or sent until it was looked at again |
| EXPIRED | the session is over; only a new session leads out |

`TRANSITIONS` holds every legal pair of state and event with the next state and what must be done. A holder
whose connection comes back within its deadline goes on in the same epoch: it reads everything and tells
everything again, because it cannot know which of its last writes took effect. One that finds its own
session's node without knowing how it came to be (a lost answer, a predecessor) gives that up first and
stands again, under the next epoch.

The embedded store has no time-out: no deadline, and no connection that could be lost.

Runs in: controller. Owner: the event loop.
"""
from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class LeaseState(Enum):
    STANDBY = "standby"
    STANDING = "standing for election"
    LEADING = "leading"
    SUSPENDED = "suspended"
    EXPIRED = "expired"


HELD = frozenset({LeaseState.LEADING, LeaseState.SUSPENDED})


class LeaseEvent(Enum):
    NODE_ABSENT = "/controller does not exist"
    NODE_TAKEN = "/controller belongs to another node"
    NODE_OURS = "/controller belongs to our session"
    WON = "the election wrote our id"
    NOT_WON = "the election wrote another's id, or nobody's"
    MOVED = "a guarded write found another epoch"
    CONNECTION_LOST = "connection lost"
    CONNECTION_BACK = "connection back, same session"
    DEADLINE_PASSED = "no answer for the session time-out"
    SESSION_EXPIRED = "session expired"
    SESSION_RENEWED = "new session"


class LeaseAction(Enum):
    STAND = "write /controller and the next epoch"
    TAKE_OFFICE = "read everything, tell every broker everything"
    GIVE_UP = "drop the state, close the channels"
    RESIGN = "delete our /controller"
    LOOK = "read /controller and watch it"


class IllegalLeaseEventError(Exception):
    """Our bug: the event cannot happen in that state. Nothing was changed."""


_S, _E, _A = LeaseState, LeaseEvent, LeaseAction

TRANSITIONS: Mapping[tuple[LeaseState, LeaseEvent], tuple[LeaseState, tuple[LeaseAction, ...]]] = {
    (_S.STANDBY, _E.NODE_ABSENT): (_S.STANDING, (_A.STAND,)),
    (_S.STANDBY, _E.NODE_TAKEN): (_S.STANDBY, ()),
    (_S.STANDBY, _E.NODE_OURS): (_S.STANDBY, (_A.RESIGN, _A.LOOK)),
    (_S.STANDBY, _E.CONNECTION_LOST): (_S.STANDBY, ()),
    (_S.STANDBY, _E.CONNECTION_BACK): (_S.STANDBY, (_A.LOOK,)),
    (_S.STANDBY, _E.SESSION_EXPIRED): (_S.EXPIRED, ()),

    (_S.STANDING, _E.WON): (_S.LEADING, (_A.TAKE_OFFICE,)),
    (_S.STANDING, _E.NOT_WON): (_S.STANDBY, (_A.LOOK,)),
    # What became of the election is found out by looking.
    (_S.STANDING, _E.CONNECTION_LOST): (_S.STANDBY, ()),
    (_S.STANDING, _E.SESSION_EXPIRED): (_S.EXPIRED, ()),

    (_S.LEADING, _E.NODE_OURS): (_S.LEADING, ()),
    (_S.LEADING, _E.NODE_ABSENT): (_S.STANDING, (_A.GIVE_UP, _A.STAND)),
    (_S.LEADING, _E.NODE_TAKEN): (_S.STANDBY, (_A.GIVE_UP,)),
    (_S.LEADING, _E.MOVED): (_S.STANDBY, (_A.GIVE_UP, _A.LOOK)),
    (_S.LEADING, _E.CONNECTION_LOST): (_S.SUSPENDED, ()),
    (_S.LEADING, _E.DEADLINE_PASSED): (_S.STANDBY, (_A.GIVE_UP, _A.LOOK)),
    (_S.LEADING, _E.SESSION_EXPIRED): (_S.EXPIRED, (_A.GIVE_UP,)),

    (_S.SUSPENDED, _E.CONNECTION_LOST): (_S.SUSPENDED, ()),
    (_S.SUSPENDED, _E.CONNECTION_BACK): (_S.SUSPENDED, (_A.LOOK,)),
    (_S.SUSPENDED, _E.NODE_OURS): (_S.LEADING, (_A.TAKE_OFFICE,)),
    (_S.SUSPENDED, _E.NODE_ABSENT): (_S.STANDING, (_A.GIVE_UP, _A.STAND)),
    (_S.SUSPENDED, _E.NODE_TAKEN): (_S.STANDBY, (_A.GIVE_UP,)),
    (_S.SUSPENDED, _E.DEADLINE_PASSED): (_S.STANDBY, (_A.GIVE_UP, _A.LOOK)),
    (_S.SUSPENDED, _E.SESSION_EXPIRED): (_S.EXPIRED, (_A.GIVE_UP,)),

    (_S.EXPIRED, _E.SESSION_RENEWED): (_S.STANDBY, (_A.LOOK,)),
}

SAFETY_SHARE = 10
"""A tenth of the session time-out is not used: for clocks that run at different speeds."""


def local_deadline_ns(sent_at_ns: int, session_timeout_ms: int | None) -> int | None:
    """When to stop acting if nothing more is answered; None: never (embedded store).

    sent_at_ns: CLOCK_BOOTTIME at the sending of the last answered request.
    """
    if session_timeout_ms is None:
        return None
    return sent_at_ns + (session_timeout_ms - session_timeout_ms // SAFETY_SHARE) * 1_000_000


class Lease:
    """The state and the deadline of one node's lease.

    changes: counts the handled events. Who awaits something under the lease compares it before and after:
    another value means that whatever was begun is not this lease's business any more.
    """

    def __init__(self, session_timeout_ms: int | None) -> None:
        self.state = LeaseState.STANDBY
        self.changes = 0
        self._session_timeout_ms = session_timeout_ms
        self._deadline_ns: int | None = None

    @property
    def deadline_ns(self) -> int | None:
        """On CLOCK_BOOTTIME; None: there is none, or nothing was answered yet in this session."""
        return self._deadline_ns

    def begin_session(self, session_timeout_ms: int | None) -> None:
        """Answers in an earlier session are worth nothing in this one."""
        self._session_timeout_ms = session_timeout_ms
        self._deadline_ns = None

    def handle(self, event: LeaseEvent) -> tuple[LeaseAction, ...]:
        """Change the state; what must be done, in order. IllegalLeaseEventError changes nothing."""
        try:
            self.state, actions = TRANSITIONS[self.state, event]
        except KeyError as error:
            raise IllegalLeaseEventError(f"{event.name} while {self.state.name}") from error
        self.changes += 1
        return actions

    def answered(self, sent_at_ns: int) -> None:
        """The store answered a request that was sent then; later ones may have been answered before."""
        deadline_ns = local_deadline_ns(sent_at_ns, self._session_timeout_ms)
        if deadline_ns is not None and (self._deadline_ns is None or deadline_ns > self._deadline_ns):
            self._deadline_ns = deadline_ns

    def has_passed(self, now_ns: int) -> bool:
        """The local deadline is over, or nothing was ever answered: DEADLINE_PASSED is due."""
        if self._session_timeout_ms is None:
            return False
        return self._deadline_ns is None or now_ns >= self._deadline_ns

    def may_act(self, now_ns: int) -> bool:
        """Whether to write or to send to brokers at this moment."""
        return self.state is LeaseState.LEADING and not self.has_passed(now_ns)

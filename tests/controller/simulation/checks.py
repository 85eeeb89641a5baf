"""What must hold of a history, whatever the seed.

| check | rule |
|---|---|
| `writes_are_fenced` | no change of the metadata is committed for a session that was not elected last |
| `acts_within_the_lease` | nobody acts whose session the servers may have ended, or after another's election |
| `epochs_grow` | each election has the next epoch |
| `vacancies_are_short` | `/controller` is taken again within a second while a fit node was there all the time |
| `lost_leaders_are_replaced` | from the stroke: within the session's time-out plus that second |

An operator who deletes `/controller`, or ends its session, ends a leader's term within its lease: that leader hears
of it when the servers' word arrives, and what it sends until then is fenced by its epoch. After such an end only
the lease counts.

Each gives sentences, none if all is well. The state at the end (leaders, registrations, what brokers were told)
is looked at by `settlement`.

Runs in: the test process. Pure functions.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from tests.controller.simulation.history import (
    EXPIRED,
    Acted,
    Committed,
    ControllerGone,
    Elected,
    Fact,
    FitnessChanged,
    LeaderLost,
    Mended,
)

TAKE_OVER_SECONDS_MAX = 1.0
FIT_BEFORE_SECONDS = 1.0
"""How long a node has to be fit before a vacancy begins to count as one that could have stood at once."""


def writes_are_fenced(facts: Sequence[Fact]) -> Iterator[str]:
    for fact in facts:
        if isinstance(fact, Committed) and fact.session_id != fact.holder:
            yield (f"{fact.time:.3f}: node {fact.node} changed {', '.join(fact.paths)} in session "
                   f"{fact.session_id:#x}, but {fact.holder:#x} was elected last")


def acts_within_the_lease(facts: Sequence[Fact]) -> Iterator[str]:
    deposed: set[int] = set()
    epoch = 0
    for fact in facts:
        if isinstance(fact, Elected):
            epoch = fact.epoch
        elif isinstance(fact, ControllerGone) and fact.why != EXPIRED:
            deposed.add(epoch)
        if not isinstance(fact, Acted):
            continue
        if fact.elected_epoch > fact.epoch and fact.epoch not in deposed:
            yield (f"{fact.time:.3f}: node {fact.node} did {fact.what} with epoch {fact.epoch} after the "
                   f"election of epoch {fact.elected_epoch}")
        if fact.session_has_expired:
            yield f"{fact.time:.3f}: node {fact.node} did {fact.what} after its session had expired"
        if fact.time > fact.lease_ends_at:
            yield (f"{fact.time:.3f}: node {fact.node} did {fact.what}, but its session may have ended at "
                   f"{fact.lease_ends_at:.3f}")


def epochs_grow(facts: Sequence[Fact]) -> Iterator[str]:
    last = 0
    for fact in facts:
        if isinstance(fact, Elected):
            if fact.epoch != last + 1:
                yield f"{fact.time:.3f}: node {fact.node} was elected with epoch {fact.epoch} after {last}"
            last = fact.epoch


def vacancies_are_short(facts: Sequence[Fact]) -> Iterator[str]:
    fitness = _fitness(facts)
    end = facts[-1].time if facts else 0.0
    for fact, taken_at in _vacancies(facts):
        deadline = fact.time + TAKE_OVER_SECONDS_MAX
        if min(taken_at, end) <= deadline:
            continue
        fit = [node for node in fitness if fitness[node](fact.time - FIT_BEFORE_SECONDS, deadline)]
        if fit:
            yield (f"{fact.time:.3f}: /controller went ({fact.why}) and was taken at {taken_at:.3f}, though "
                   f"{fit} could have stood")


def lost_leaders_are_replaced(facts: Sequence[Fact]) -> Iterator[str]:
    fitness = _fitness(facts)
    elections = [fact for fact in facts if isinstance(fact, Elected)]
    for fact in facts:
        if not isinstance(fact, LeaderLost):
            continue
        deadline = fact.session_ends_at + TAKE_OVER_SECONDS_MAX
        came_back = any(isinstance(other, FitnessChanged | Mended) and other.node == fact.node
                        and fact.time < other.time < deadline and (isinstance(other, Mended) or other.is_fit)
                        for other in facts)
        was_replaced = any(fact.time <= elected.time <= deadline for elected in elections)
        if came_back or was_replaced or facts[-1].time <= deadline:
            continue
        fit = [node for node in fitness if node != fact.node
               and fitness[node](fact.time - FIT_BEFORE_SECONDS, deadline)]
        if fit:
            yield (f"{fact.time:.3f}: leading node {fact.node} was lost ({fact.why}) and not replaced by "
                   f"{deadline:.3f}, though {fit} could have stood")


def _vacancies(facts: Sequence[Fact]) -> Iterator[tuple[ControllerGone, float]]:
    """Each with the time of the election that ends it, infinite if none does."""
    gone: ControllerGone | None = None
    for fact in facts:
        if isinstance(fact, ControllerGone):
            gone = fact
        elif isinstance(fact, Elected) and gone is not None:
            yield gone, fact.time
            gone = None
    if gone is not None:
        yield gone, float("inf")


def _fitness(facts: Sequence[Fact]) -> dict[int, Callable[[float, float], bool]]:
    """By node: was it fit from the first to the second time, both included?"""
    changes: defaultdict[int, list[tuple[float, bool]]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, FitnessChanged):
            changes[fact.node].append((fact.time, fact.is_fit))

    def judge(node: int) -> Callable[[float, float], bool]:
        def was_fit(first: float, last: float) -> bool:
            before = [is_fit for time, is_fit in changes[node] if time <= first]
            between = [is_fit for time, is_fit in changes[node] if first < time <= last]
            return bool(before) and before[-1] and all(between)
        return was_fit

    return {node: judge(node) for node in changes}


ALL = (writes_are_fenced, acts_within_the_lease, epochs_grow, vacancies_are_short, lost_leaders_are_replaced)


def violations(facts: Sequence[Fact]) -> list[str]:
    return [sentence for check in ALL for sentence in check(facts)]

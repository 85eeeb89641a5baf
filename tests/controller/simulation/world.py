"""A simulated world: servers, nodes, a plan, and the history of what came of it.

`run_seed` is the whole of it: the story, in which the plan's strokes fall; then everything is mended, time is
given to settle, and the end is looked at.

Runs in: the test process; the world's own tasks belong to no node.
"""
from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from controller import znodes
from controller.event_loop import EventLoop
from controller.metadata_store.errors import StoreError
from controller.metadata_store.operations import Create, Delete, Multi, Outcome, Request, SetData
from tests.controller.simulation import checks, settlement
from tests.controller.simulation.ensemble import Ensemble, Session
from tests.controller.simulation.history import (
    DELETED,
    EXPIRED,
    Acted,
    Committed,
    ControllerGone,
    Elected,
    FitnessChanged,
    History,
    Noted,
)
from tests.controller.simulation.node import LoopFactory, Node, changed_paths
from tests.controller.simulation.plan import STORY_SECONDS, Plan, draw_plan
from tests.controller.simulation.scheduler import Timeline, install_holding_queue, run_repeatably
from tests.controller.simulation.strokes import Strokes

SETTLE_SECONDS_MAX = 15.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Result:
    """violations: sentences, none when all is well. lines: the history, for reading."""

    plan: Plan
    violations: list[str]
    lines: list[str]
    elections: int
    commits: int
    acts: int
    settled_after_seconds: float

    def __str__(self) -> str:
        return "\n".join([str(self.plan), *self.lines, f"{len(self.violations)} violations:", *self.violations])


class World:
    """owners: node by session id. epochs: last epoch that a session was elected with. expired:
    sessions that ended by their time-out. acknowledged: ids of topics that a client was told are created, and
    that nobody deletes.
    """

    def __init__(self, plan: Plan, make_loop: LoopFactory) -> None:
        self.plan = plan
        self.make_loop = make_loop
        self.draw = random.Random(plan.seed + 1)
        self.history = History()
        self.failures: list[str] = []
        self.owners: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.expired: set[int] = set()
        self.acknowledged: dict[str, bytes] = {}

    async def run(self) -> Result:
        self.queue = install_holding_queue()
        self.timeline = Timeline()
        self.ensemble = Ensemble(self.timeline, self.draw, server_count=self.plan.server_count,
                                 clock_rate=self.plan.server_clock_rate)
        self.ensemble.on_commit = self._committed
        self.ensemble.on_end = self._session_ends
        self.nodes = {number + 1: Node(self, number + 1, rate)
                      for number, rate in enumerate(self.plan.node_clock_rates)}
        strokes = Strokes(self)
        async with trio.open_nursery() as self.nursery:
            self.nursery.start_soon(self.timeline.run)
            self.nursery.start_soon(self._watch_fitness)
            for node in self.nodes.values():
                self.timeline.after(self.draw.uniform(0, 0.5), node.start)
            for stroke in self.plan.strokes:
                self.timeline.at(stroke.time, strokes.falling(stroke))
            await trio.sleep(STORY_SECONDS - trio.current_time())
            strokes.mend_everything()
            problems, seconds = await self._settle()
            self._kill_all()
            self.nursery.cancel_scope.cancel()
        return self._result(problems, seconds)

    async def _settle(self) -> tuple[list[str], float]:
        started = trio.current_time()
        while True:
            problems = settlement.problems(self)
            seconds = trio.current_time() - started
            if not problems or seconds > SETTLE_SECONDS_MAX:
                return problems, seconds
            await trio.sleep(LOOK_SECONDS)

    def _kill_all(self) -> None:
        for node in self.nodes.values():
            node.kill(with_front_end=True)

    def _result(self, problems: list[str], seconds: float) -> Result:
        facts = self.history.facts
        violations = [*self.failures, *checks.violations(facts),
                      *(f"at the end: {problem}" for problem in problems)]
        return Result(self.plan, violations, self.history.lines(),
                      sum(isinstance(fact, Elected) for fact in facts),
                      sum(isinstance(fact, Committed) for fact in facts),
                      sum(isinstance(fact, Acted) for fact in facts), seconds)

    # The history

    def note(self, text: str) -> None:
        self.history.add(Noted(trio.current_time(), text))

    def _committed(self, session_id: int, request: Request, outcome: Outcome) -> None:
        if isinstance(outcome, StoreError):
            return
        now = trio.current_time()
        operations = request.operations if isinstance(request, Multi) else (request,)
        for operation in operations:
            match operation:
                case Delete(znodes.CONTROLLER):
                    self.history.add(ControllerGone(now, DELETED))
                case Create(znodes.CONTROLLER):
                    self._elected(session_id)
        paths = changed_paths(request)
        elected = self.history.elected
        if session_id and paths:
            self.history.add(Committed(now, self.owners.get(session_id, 0), session_id,
                                       0 if elected is None else elected.session_id, paths))

    def _elected(self, session_id: int) -> None:
        node = self.ensemble.tree.node(znodes.CONTROLLER_EPOCH)
        assert node is not None
        epoch = znodes.decode_controller_epoch(node.data)
        self.epochs[session_id] = epoch
        self.history.add(Elected(trio.current_time(), self.owners.get(session_id, 0), session_id, epoch))

    def _session_ends(self, session: Session, why: str) -> None:
        if why == EXPIRED:
            self.expired.add(session.id)
        self.note(f"session {session.id:#x} of node {self.owners.get(session.id, 0)} {why}")
        found = self.ensemble.tree.node(znodes.CONTROLLER)
        if found is not None and found.ephemeral_owner == session.id:
            self.history.add(ControllerGone(trio.current_time(), why))

    async def _watch_fitness(self) -> None:
        known: dict[int, bool] = {}
        while True:
            servers_are_well = self.ensemble.is_serving and all(
                server.is_up and not server.is_behind for server in self.ensemble.servers)
            for node in self.nodes.values():
                is_fit = servers_are_well and node.is_fit
                if known.get(node.id) is not is_fit:
                    known[node.id] = is_fit
                    self.history.add(FitnessChanged(trio.current_time(), node.id, is_fit))
            await trio.sleep(LOOK_SECONDS)

    # What strokes need

    def leader(self) -> Node | None:
        for node in self.nodes.values():
            if node.is_leading:
                return node
        return None

    def write(self, *requests: Request) -> None:
        """An operator's or an old tool's doing; what cannot be done is not."""
        if self.ensemble.is_serving:
            for request in requests:
                self.ensemble.write(0, request)

    def data(self, path: str) -> bytes | None:
        found = self.ensemble.tree.node(path)
        return None if found is None else found.data

    def set_or_create(self, path: str, data: bytes) -> Request:
        return SetData(path, data) if self.ensemble.tree.node(path) is not None else Create(path, data)


def run_plan(plan: Plan, make_loop: LoopFactory = EventLoop) -> Result:
    return run_repeatably(World(plan, make_loop).run, plan.seed)


def run_seed(seed: int, make_loop: LoopFactory = EventLoop) -> Result:
    return run_plan(draw_plan(seed), make_loop)

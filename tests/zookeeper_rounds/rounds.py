"""Rounds on one running cluster: each draws a stroke from its seed, has it fall while there is work to do, mends
everything, waits until all is served again, and asks the servers' transaction log for the truth.

A round with the same seed has the same plan; what the scheduler does with it differs from run to run.
Runs in: the test process, main thread (it starts the nodes, whose death signal is tied to the thread).
"""
from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller import znodes
from controller.cluster import ReplicaAssignment
from controller.znodes import TopicAssignment
from tests.peers.tcp_proxy import TcpProxy
from tests.peers.zookeeper import ZooKeeperServer
from tests.zookeeper_rounds import evidence
from tests.zookeeper_rounds.cluster import SESSION_TIMEOUT_MS, Cluster, Node
from tests.zookeeper_rounds.evidence import Loss

TAKE_OVER_MS_MAX = 1000
LOG_TAIL_CHARACTERS = 6000
BLINK_SECONDS = (0.05, 1.0)
LONG_SECONDS = (1.15 * SESSION_TIMEOUT_MS / 1000, 1.8 * SESSION_TIMEOUT_MS / 1000)
LOSS_SECONDS_MIN = SESSION_TIMEOUT_MS / 1000 + 1.5
"""Shorter strokes may end before the servers have ended the session: they count whole ticks."""

RESTARTING = ("kill_node", "kill_controller")
"""Strokes that end a process. No other may: nobody needs a restart."""

STROKES = ("kill_node", "kill_node", "stop_node", "stop_node", "stop_controller", "kill_controller", "cut", "cut",
           "black_hole", "black_hole", "flap", "restart_servers", "restart_servers", "expire", "expire_all",
           "depose")
NAMESPACE_STROKES = ("black_hole", "black_hole", "mute", "restart_servers", "kill_node", "stop_node")
"""On cables instead of proxies, which cannot refuse or reset."""


class RoundFailedError(AssertionError):
    """The message holds plan, timeline, violations and the ends of the nodes' logs."""


@dataclass(frozen=True)
class RoundPlan:
    """topics: partitions by name; those made by a call count only if the call succeeded."""

    seed: int
    stroke: str
    hits_leader: bool
    seconds: float
    number: int
    topics_by_node: dict[str, int]
    topics_by_call: dict[str, int]
    work_lead_seconds: float


def draw_plan(seed: int, strokes: Sequence[str] = STROKES) -> RoundPlan:
    draw = random.Random(seed)
    prefix = f"t{seed}"
    return RoundPlan(
        seed, draw.choice(strokes), draw.random() < 0.75,
        draw.uniform(*(BLINK_SECONDS if draw.random() < 0.3 else LONG_SECONDS)), draw.getrandbits(16),
        {f"{prefix}-tool{index}": draw.randint(1, 3) for index in range(draw.randint(1, 3))},
        {f"{prefix}-call{index}": draw.randint(1, 3) for index in range(draw.randint(0, 2))},
        draw.choice((0.0, 0.0, draw.uniform(0, 0.1))))


class Rounds:
    """`run` one seed after the other. timeline: what happened. strokes: to choose from."""

    def __init__(self, cluster: Cluster, strokes: Sequence[str] = STROKES) -> None:
        self.timeline: list[str] = []
        self._strokes = strokes
        self._cluster = cluster
        self._topics: dict[str, int] = {}
        self._losses: list[Loss] = []
        self._started = time.monotonic()
        self._mending: list[Callable[[], object]] = []

    def succession_ms(self) -> list[int]:
        """From the loss of each leader to the next election, up to now."""
        return evidence.succession_ms(self._cluster.transactions(), self._losses)

    def controller_writes(self) -> int:
        """That were judged."""
        return evidence.controller_writes(self._cluster.transactions())

    def note(self, text: str) -> None:
        self.timeline.append(f"{time.monotonic() - self._started:8.3f} {text}")

    def run(self, seed: int) -> float:
        """Seconds that it took. RoundFailedError with all evidence."""
        plan = draw_plan(seed, self._strokes)
        started = time.monotonic()
        self.note(f"{plan}")
        problems: list[str] = []
        processes = self._processes()
        try:
            self._work_and_strike(plan)
            self.note(f"settled in {self._cluster.settle(self._topics):.2f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the evidence
            problems.append(f"{type(error).__name__}: {error}")
        if plan.stroke not in RESTARTING and self._processes() != processes:
            problems.append(f"processes were {processes}, now they are {self._processes()}")
        transactions = self._cluster.transactions()
        problems += evidence.violations(transactions)
        problems += evidence.late_successors(transactions, self._losses)
        if problems:
            raise RoundFailedError(self._evidence(plan, problems))
        self._forget_old_topics(plan)
        return time.monotonic() - started

    def _processes(self) -> dict[int, dict[str, int]]:
        return {broker_id: node.processes() for broker_id, node in self._cluster.nodes.items()}

    def _work_and_strike(self, plan: RoundPlan) -> None:
        victim = self._victim(plan)
        for topic, partitions in plan.topics_by_node.items():
            self._create_by_node(topic, partitions, plan.number)
        for topic, partitions in plan.topics_by_call.items():
            if self._cluster.create_topic_by_call(topic, partitions):
                self._topics[topic] = partitions
        for index in range(3):
            self._create_by_node(f"t{plan.seed}-work{index}", 2, plan.number + index)
        time.sleep(plan.work_lead_seconds)
        try:
            getattr(self, f"_{plan.stroke}")(victim, plan)
        finally:
            while self._mending:
                self._mending.pop()()

    def _victim(self, plan: RoundPlan) -> Node:
        leader = self._cluster.leader()
        if plan.hits_leader and leader is not None:
            return leader
        nodes = list(self._cluster.nodes.values())
        return nodes[plan.number % len(nodes)]

    def _create_by_node(self, topic: str, partitions: int, number: int) -> None:
        """As an old tool does."""
        ids = sorted(self._cluster.nodes)
        assignment = {index: ReplicaAssignment((ids[(number + index) % len(ids)],)) for index in range(partitions)}
        self._cluster.create(znodes.topic_path(topic),
                             znodes.encode_topic(TopicAssignment(os.urandom(15) + b"\1", assignment)))
        self._topics[topic] = partitions

    def _forget_old_topics(self, plan: RoundPlan) -> None:
        """Deleted while the next round goes on."""
        for topic in [topic for topic in self._topics if not topic.startswith(f"t{plan.seed}-tool")]:
            del self._topics[topic]
            self._cluster.create(znodes.delete_topic_path(topic), b"")

    def _striking(self, victim: Node, plan: RoundPlan, lasts: float) -> None:
        self.note(f"{plan.stroke} node {victim.broker_id} for {lasts:.2f} s")
        now_ms = time.time_ns() // 1_000_000
        if self._cluster.leader() is victim and lasts > LOSS_SECONDS_MIN:
            self._losses.append(Loss(now_ms, victim.broker_id, now_ms + SESSION_TIMEOUT_MS + TAKE_OVER_MS_MAX,
                                     plan.stroke))

    # Strokes. What ends them is in `_mending` in case that they fail.

    def _kill_node(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, plan.seconds)
        victim.kill()
        time.sleep(plan.seconds)
        self.note(f"started again in {victim.start():.2f} s")

    def _stop_node(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, plan.seconds)
        self._mending.append(lambda: victim.signal_tree(signal.SIGCONT))
        victim.signal_tree(signal.SIGSTOP)
        time.sleep(plan.seconds)

    def _stop_controller(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, plan.seconds)
        self._mending.append(lambda: victim.signal_controller(signal.SIGCONT))
        victim.signal_controller(signal.SIGSTOP)
        time.sleep(plan.seconds)

    def _kill_controller(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, 0)
        victim.kill_process("controller")

    def _cut(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, plan.seconds)
        self._break_ways(victim, "refuse")
        time.sleep(plan.seconds)

    def _black_hole(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, plan.seconds)
        self._break_ways(victim, "black_hole")
        time.sleep(plan.seconds)

    def _mute(self, victim: Node, plan: RoundPlan) -> None:
        """The servers hear the node, and it hears nothing."""
        self._striking(victim, plan, 0)  # its session lives as long as its pings come
        self._break_ways(victim, "mute")
        time.sleep(2 * plan.seconds)

    def _break_ways(self, victim: Node, how: str) -> None:
        for way in victim.ways:
            self._mending.append(way.heal)
            getattr(way, how)()

    def _flap(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, 0)
        for way in victim.ways:
            assert isinstance(way, TcpProxy), "only a proxy resets connections"
            way.cut()

    def _restart_servers(self, victim: Node, plan: RoundPlan) -> None:
        """The only server, or the leading one of three; killed."""
        ensemble = self._cluster.ensemble
        server: ZooKeeperServer = self._cluster.servers[0] if ensemble is None else ensemble.leader()
        self.note(f"kill ZooKeeper at {server.connect_string} for {plan.seconds:.2f} s")
        server.kill()
        time.sleep(plan.seconds)
        server.start()

    def _expire(self, victim: Node, plan: RoundPlan) -> None:
        self._striking(victim, plan, 0)
        self._cluster.expire(self._cluster.owner(znodes.broker_path(victim.broker_id)))

    def _expire_all(self, victim: Node, plan: RoundPlan) -> None:
        """One after another, without a pause or with one."""
        self._striking(victim, plan, 0)
        sessions = [self._cluster.owner(znodes.broker_path(broker_id)) for broker_id in self._cluster.nodes]
        for session in sessions:
            self._cluster.expire(session)
            time.sleep(plan.number % 2 * 0.5)

    def _depose(self, victim: Node, plan: RoundPlan) -> None:
        """As operators do to have another node lead."""
        self.note("delete /controller")
        if self._cluster.owner(znodes.CONTROLLER):
            self._cluster.delete(znodes.CONTROLLER)

    # The end

    def _evidence(self, plan: RoundPlan, problems: Sequence[str]) -> str:
        tails = []
        for node in self._cluster.nodes.values():
            text = node.log_path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
            tails.append(f"end of the log of node {node.broker_id}:\n{text}")
        return "\n".join([f"the round of seed {plan.seed} failed", "timeline:", *self.timeline, *tails,
                          f"{len(problems)} violations:", *problems])


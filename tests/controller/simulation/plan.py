"""What a seed does to its world: drawn before anything runs.

Runs in: the test process. Pure.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

SESSION_TIMEOUT_MS = 3000
STORY_SECONDS = 18.0
FIRST_STROKE_SECONDS = 2.0
CLOCK_RATE_SPREAD = 0.04
"""Clocks run up to so much fast or slow: two of them differ by less than the tenth that the lease keeps back."""

LEADER = 0
"""As a victim: whoever leads when the stroke falls."""


@dataclass(frozen=True)
class Stroke:
    """kind: name of a method of `Strokes`. victim: a node, or LEADER. seconds: how long it lasts."""

    time: float
    kind: str
    victim: int
    seconds: float
    number: int

    def __str__(self) -> str:
        victim = "the leader" if self.victim == LEADER else f"node {self.victim}"
        return f"{self.time:.3f} {self.kind} {victim} for {self.seconds:.2f} s"


@dataclass(frozen=True)
class Plan:
    seed: int
    node_count: int
    server_count: int
    session_timeout_ms: int
    server_clock_rate: float
    node_clock_rates: tuple[float, ...]
    strokes: tuple[Stroke, ...]

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:.3f}" for rate in self.node_clock_rates)
        return "\n".join([
            f"seed {self.seed}: {self.node_count} nodes, {self.server_count} servers, session "
            f"{self.session_timeout_ms} ms, clock rates: servers {self.server_clock_rate:.3f}, nodes {rates}",
            *(f"  {stroke}" for stroke in self.strokes)])


TOPIC_KINDS = ("create_topic", "create_topic", "call_create_topic", "call_create_topic", "add_partitions",
               "delete_topic", "call_delete_topic", "configure_topic")
NODE_KINDS = ("stop", "stop", "stop_at_work", "stop_at_work", "kill_node", "kill_node", "kill_controller",
              "restart_front_end", "cut", "cut", "black_hole", "black_hole", "storm", "cut_from_peers", "expire",
              "flap")
SERVER_KINDS = ("stop_servers", "stop_one_server", "slow_server", "delete_controller", "depose_at_work",
                "depose_at_work", "expire_all", "expire_in_turn")


def draw_plan(seed: int) -> Plan:
    draw = random.Random(seed)

    def rate() -> float:
        return 1 + draw.uniform(-CLOCK_RATE_SPREAD, CLOCK_RATE_SPREAD)

    node_count = draw.choice((2, 3, 3))
    strokes = [*_strokes(draw, node_count, draw.randint(3, 7), NODE_KINDS),
               *_strokes(draw, node_count, draw.randint(0, 3), SERVER_KINDS),
               *_strokes(draw, node_count, draw.randint(4, 10), TOPIC_KINDS)]
    return Plan(seed, node_count, draw.choice((1, 1, 3)), SESSION_TIMEOUT_MS, rate(),
                tuple(rate() for _ in range(node_count)), tuple(sorted(strokes, key=lambda stroke: stroke.time)))


def _strokes(draw: random.Random, node_count: int, count: int, kinds: tuple[str, ...]) -> list[Stroke]:
    return [Stroke(draw.uniform(FIRST_STROKE_SECONDS, STORY_SECONDS), draw.choice(kinds),
                   LEADER if draw.random() < 0.6 else draw.randint(1, node_count), _seconds(draw),
                   draw.getrandbits(16)) for _ in range(count)]


def _seconds(draw: random.Random) -> float:
    """Blinks, about the session's time-out, and well beyond it."""
    timeout_seconds = SESSION_TIMEOUT_MS / 1000
    ranges: tuple[Callable[[], float], ...] = (
        lambda: draw.uniform(0.01, 0.3),
        lambda: draw.uniform(0.6, 1.3) * timeout_seconds,
        lambda: draw.uniform(1.3, 2.5) * timeout_seconds)
    return draw.choice(ranges)()

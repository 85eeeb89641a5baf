"""One round: a plan drawn from the seed, clients at work, parts killed one after another, and the judgement.

A round with the same seed has the same plan (settings, topics, victims, pauses); what the scheduler does with
it differs from run to run, so a failing seed is run several times to meet its bug again.
Runs in: the test process, main thread (it starts the broker, whose death signal is tied to the thread).
"""
from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.clients import (
    Churner,
    Client,
    Reader,
    TopicMaker,
    Writer,
    create_topic_patiently,
    producer_settings,
    read_logs,
)
from tests.crash.ledger import Ledger, TopicPartition
from tests.crash.log_files import check_directories
from tests.crash.node import Node

__all__ = ["RoundFailedError", "RoundResult", "run_round"]

KILLS_PER_ROUND = 6
LOG_TAIL_CHARACTERS = 12_000
TREE, SUPERVISOR = "tree", "supervisor"
SINGLE_VICTIMS = ("front end", "controller", "storage 0", "storage 1")
CHURNER = 9
"""Its producer number; the writers are 0 (not idempotent) to 3 (late topics only)."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class RoundFailedError(AssertionError):
    """The message holds seed, plan, timeline, violations and the end of the broker's log."""


@dataclass(frozen=True)
class Kill:
    """victims: parts at once, or (TREE,) or (SUPERVISOR,). pause_seconds: before it."""

    pause_seconds: float
    victims: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that the seed decides."""

    seed: int
    overrides: dict[str, str]
    topics: dict[str, tuple[int, dict[str, str]]]
    late_topics: dict[str, int]
    kills: tuple[Kill, ...]
    codecs: tuple[str, ...]
    linger_ms: tuple[int, ...]
    records_per_second: int
    churns: bool
    ends_cleanly: bool


@dataclass(frozen=True)
class RoundResult:
    seed: int
    acked_count: int
    kill_count: int
    seconds: float


def draw_plan(seed: int, kill_count: int = KILLS_PER_ROUND) -> Plan:
    draw = random.Random(seed)
    overrides = {
        "log.segment.bytes": str(draw.choice((64 << 10, 256 << 10, 1 << 30))),
        "num.recovery.threads.per.data.dir": str(draw.choice((1, 2))),
        "log.flush.offset.checkpoint.interval.ms": str(draw.choice((500, 60_000))),
        "replica.high.watermark.checkpoint.interval.ms": str(draw.choice((200, 5000))),
        "log.index.interval.bytes": str(draw.choice((512, 4096))),
    }
    topics = {
        "plain": (4, {}),
        "stamped": (3, {"message.timestamp.type": "LogAppendTime"}),
        "synced": (2, {"flush.messages": "1"}),
    }
    late_topics = {f"late{index}": draw.randint(1, 3) for index in range(draw.randint(1, 3))}
    kills = tuple(_draw_kill(draw) for _ in range(kill_count))
    codecs = tuple(draw.choice(CODECS) for _ in range(4))
    linger_ms = tuple(draw.choice((0, 1, 5)) for _ in range(4))
    return Plan(seed, overrides, topics, late_topics, kills, codecs, linger_ms, draw.choice((300, 300, 2000)),
                draw.random() < 0.5, draw.random() < 0.5)


def _draw_kill(draw: random.Random) -> Kill:
    pause_seconds = draw.choice((draw.uniform(0, 0.1), draw.uniform(0.1, 0.8)))
    kind = draw.random()
    if kind < 0.12:
        return Kill(pause_seconds, (TREE,))
    if kind < 0.18:
        return Kill(pause_seconds, (SUPERVISOR,))
    if kind < 0.35:
        return Kill(pause_seconds, tuple(draw.sample(SINGLE_VICTIMS, 2)))
    return Kill(pause_seconds, (draw.choice(SINGLE_VICTIMS),))


class Round:
    """clients in the order in which they end: makers, writers, readers."""

    def __init__(self, plan: Plan, work_dir: Path) -> None:
        self.plan = plan
        self.ledger = Ledger()
        self.node = Node(work_dir, plan.overrides, log_dirs=[work_dir / "a", work_dir / "b"])
        self._draw = random.Random(plan.seed + 1)
        self._places: list[TopicPartition] = []

    def run(self) -> RoundResult:
        started = time.monotonic()
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the evidence
            self.ledger.violate(f"{type(error).__name__}: {error}")
            self.ledger.note(traceback.format_exc())
        try:
            if self.ledger.violations:
                raise RoundFailedError(self._evidence())
        finally:
            self.node.close()
        return RoundResult(self.plan.seed, self.ledger.acked_count, len(self.plan.kills),
                           time.monotonic() - started)

    def _run(self) -> None:
        self.ledger.note(f"started in {self.node.start():.2f} s")
        for topic, (partitions, configs) in self.plan.topics.items():
            if not create_topic_patiently(self.node.address, topic, partitions, configs):
                raise TimeoutError(f"topic {topic} was not created")
            self._places += [(topic, number) for number in range(partitions)]
        writers, readers, makers = self._clients()
        for client in (*writers, *readers, *makers):
            client.start()
        try:
            time.sleep(0.3)
            for kill in self.plan.kills:
                self._kill(kill)
            time.sleep(0.3)
        finally:
            self._end(makers)
            self._end(writers)
        self.ledger.note(f"{self.ledger.acked_count} of {self.ledger.sent_count} records acknowledged")
        self._await_followers(readers[0])
        self._end(readers)
        self._judge()

    def _clients(self) -> tuple[list[Writer], list[Reader], list[Client]]:
        bootstrap, ledger, plan = self.node.bootstrap, self.ledger, self.plan
        writers = []
        for number in range(4):
            settings = producer_settings(bootstrap, idempotent=number > 0) | {
                "linger.ms": plan.linger_ms[number], "compression.type": plan.codecs[number]}
            places = self._places if number < 3 else []
            writers.append(Writer(number, ledger, settings, places, plan.seed * 10 + number,
                                  plan.records_per_second))
        readers = [Reader("follower", ledger, bootstrap, self._places, plan.seed),
                   Reader("rereader", ledger, bootstrap, self._places, plan.seed, jump_seconds=0.7)]
        address = self.node.address
        makers: list[Client] = [TopicMaker(ledger, address, plan.late_topics, 0.5, writers[1:], readers)]
        if plan.churns:
            makers.append(Churner(CHURNER, ledger, bootstrap, address, 2))
        return writers, readers, makers

    def _kill(self, kill: Kill) -> None:
        time.sleep(kill.pause_seconds)
        if kill.victims == (TREE,):
            self.ledger.note("kill the whole tree")
            self.node.strike_tree()
            self.ledger.note(f"started again in {self.node.start():.2f} s")
        elif kill.victims == (SUPERVISOR,):
            self.ledger.note("kill the supervisor")
            self.node.strike_supervisor()
            self.ledger.note(f"started again in {self.node.start():.2f} s")
        else:
            pids = self.node.strike(*kill.victims)
            self.ledger.note(f"killed {' and '.join(kill.victims)}, {pids}")

    def _end(self, clients: Sequence[Client]) -> None:
        for client in clients:
            client.tell_to_end()
        for client in clients:
            client.join(60)
            if client.is_alive():
                self.ledger.violate(f"{client.name} does not end")

    def _await_followers(self, follower: Reader) -> None:
        """The follower gets everything that was acknowledged, without any new kick."""
        deadline = time.monotonic() + 15
        while self.ledger.unseen():
            if time.monotonic() > deadline:
                self.ledger.violate(f"{follower.name} did not see {self.ledger.unseen()[:5]} within 15 s")
                return
            time.sleep(0.05)

    def _judge(self) -> None:
        places = self.ledger.places
        logs = read_logs(self.node.bootstrap, self.node.address, places)
        self.ledger.note(f"{sum(map(len, logs.values()))} records read")
        for place, records in logs.items():
            self.ledger.judge(place, records)
        if self.plan.ends_cleanly:
            code = self.node.stop()
            if code or len(self.node.markers()) != 2:
                self.ledger.violate(f"clean stop: exit code {code}, markers {self.node.markers()}")
        else:
            self.node.strike_tree()
        for problem in check_directories(self.node.log_dirs, logs):
            self.ledger.violate(problem)

    def _evidence(self) -> str:
        log_path = self.node.log_path
        tail = log_path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if log_path.exists() else ""
        return "\n".join([
            f"seed {self.plan.seed} failed; again with: python -m tests.crash --rounds 1 --seed {self.plan.seed}",
            f"plan: {self.plan}",
            "timeline:", *self.ledger.timeline,
            f"end of the broker's log ({log_path}):", tail,
            f"{len(self.ledger.violations)} violations:", *self.ledger.violations,
        ])


def run_round(seed: int, work_dir: Path, kill_count: int = KILLS_PER_ROUND) -> RoundResult:
    """Raises RoundFailedError with all evidence; the directory is left for inspection then."""
    result = Round(draw_plan(seed, kill_count), work_dir).run()
    shutil.rmtree(work_dir)
    return result

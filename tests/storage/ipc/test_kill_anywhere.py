"""Takeover after the death of either side, at every step of its publications and at random instants.

The storage process here does what the real one does, without a disk: it takes a group, moves the log end,
publishes its half of the slot, then completes the group. Invariants after every death:
- completions taken are a beginning of what was submitted, in order, each once;
- what was completed is in the slot: the log end never lags behind an answer;
- the next generation answers everything that is submitted again, and nothing of the old one appears in it.
"""
from __future__ import annotations

import random
import select
import time

import pytest

from storage.ipc import debug_hook
from storage.ipc.entries import C_REQUEST_ID, S_REQUEST_ID
from storage.ipc.layout import IN_FLIGHT_MAX
from storage.ipc.ring import CompletionConsumer, SubmissionProducer
from tests.storage.ipc.links import Link, completion, submission
from tests.storage.ipc.processes import Forked, kill_at_step

SEED = 20240611
GROUPS = 3
GROUP_SIZE = 5
RANDOM_ROUNDS = 60


def wait_readable(fd: int, wait_s: float = 10) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(wait_s * 1000)


def log_end(link: Link) -> int:
    half = link.table().read_storage_half(0)
    return 0 if half is None else half.log_end_offset


def storage_process(link: Link, group_count: int | None, die_at_step: int | None = None) -> None:
    """Serve `group_count` groups (None: until killed). The log end counts appends over all incarnations."""
    table = link.table()
    end = log_end(link)
    consumer, producer = link.storage()
    if die_at_step is not None:
        debug_hook.hook = kill_at_step(die_at_step)
    while group_count is None or group_count > 0:
        wait_readable(consumer.fileno(), 60)
        group = consumer.take()
        end += len(group)
        table.publish_storage_half(0, 1, 0, end, 0, end & 0xFFFFFFFF, 2, -1, 0)
        for entry in group:
            producer.put(*completion(entry[S_REQUEST_ID]))
        producer.flush()
        if group_count is not None:
            group_count -= 1


class FrontEnd:
    """Submits numbers from 1 on and takes their completions."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.next_number = 1
        self.answered = 0
        self.producer: SubmissionProducer
        self.consumer: CompletionConsumer
        self.attach()

    def attach(self) -> None:
        self.producer, self.consumer = self.link.front_end()

    def submit(self, count: int) -> None:
        for _ in range(count):
            self.producer.put(*submission(self.next_number))
            self.next_number += 1
        self.producer.flush()

    def pump(self) -> None:
        self.check(self.consumer.take())

    def take_over(self) -> None:
        """After the death of storage: what it published, then a new generation; the rest is submitted again."""
        self.check(self.consumer.take_over())
        self.next_number = self.answered + 1
        self.link.renew()
        self.attach()

    def check(self, completions: list[tuple[int, ...]]) -> None:
        numbers = range(self.answered + 1, self.answered + 1 + len(completions))
        assert completions == [completion(number) for number in numbers]
        self.answered += len(completions)
        assert log_end(self.link) >= self.answered

    def finish(self, wait_s: float = 10) -> None:
        deadline = time.monotonic() + wait_s
        while self.answered < self.next_number - 1:
            assert time.monotonic() < deadline
            wait_readable(self.consumer.fileno())
            self.pump()


def steps_of_storage() -> int:
    """Steps that a storage process makes in GROUPS groups: nine for each half, three for each flush."""
    return GROUPS * 12


@pytest.mark.parametrize("step", range(GROUPS * 12))
def test_storage_killed_between_any_two_steps(step: int) -> None:
    link = Link()
    front_end = FrontEnd(link)
    child = Forked(lambda: storage_process(link, GROUPS, step))
    while child.is_running() and front_end.next_number <= GROUPS * GROUP_SIZE:
        front_end.submit(GROUP_SIZE)
        while child.is_running() and front_end.answered < front_end.next_number - 1:
            front_end.pump()
    assert child.wait() == -9
    front_end.take_over()
    heir = Forked(lambda: storage_process(link, 1))
    front_end.submit(GROUP_SIZE)
    front_end.finish()
    assert heir.wait() == 0


def test_storage_has_exactly_the_steps_that_were_tried() -> None:
    link = Link()
    front_end = FrontEnd(link)
    child = Forked(lambda: storage_process(link, GROUPS, steps_of_storage()))
    for _ in range(GROUPS):
        front_end.submit(GROUP_SIZE)
        front_end.finish()
    assert child.wait() == 0


@pytest.mark.parametrize(("step", "seen"), [(0, 0), (1, 0), (2, GROUP_SIZE)])
def test_front_end_killed_between_any_two_steps_of_a_flush(step: int, seen: int) -> None:
    """Storage reads what the doorbell announced; then a new generation begins with nothing of the old one."""
    link = Link()
    consumer, _ = link.storage()

    def flush_and_die() -> None:
        front_end = FrontEnd(link)
        debug_hook.hook = kill_at_step(step)
        front_end.submit(GROUP_SIZE)

    assert Forked(flush_and_die).wait() == -9
    assert consumer.take() == [submission(number) for number in range(1, seen + 1)]
    link.renew()
    consumer, producer = link.storage()
    assert consumer.take() == []
    front_end = FrontEnd(link)
    front_end.submit(2)
    assert consumer.take() == [submission(1), submission(2)]
    link.table().publish_storage_half(0, 1, 0, 2, 0, 0, 2, -1, 0)
    for number in (1, 2):
        producer.put(*completion(number))
    producer.flush()
    front_end.finish()


def test_storage_killed_at_random_instants_under_load() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    link = Link()
    front_end = FrontEnd(link)
    answered_per_round = []
    for _ in range(RANDOM_ROUNDS):
        before = front_end.answered
        child = Forked(lambda: storage_process(link, None))
        until = time.monotonic() + rng.uniform(0.0, 0.04)
        while time.monotonic() < until:
            front_end.submit(min(rng.randrange(1, 400), front_end.producer.free_count))
            front_end.pump()
        child.kill()
        front_end.take_over()
        answered_per_round.append(front_end.answered - before)
    print(f"answered {front_end.answered}, rounds without an answer {answered_per_round.count(0)}")
    assert front_end.answered > RANDOM_ROUNDS
    assert front_end.producer.free_count == IN_FLIGHT_MAX


def test_front_end_killed_at_random_instants_under_load() -> None:
    """Storage keeps what it read, drops nothing it completed, and serves the next front end."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    link = Link()

    def submit_for_ever() -> None:
        front_end = FrontEnd(link)
        while True:
            front_end.submit(min(50, front_end.producer.free_count))
            front_end.pump()

    taken_total = 0
    link.table().publish_storage_half(0, 1, 0, 2**62, 0, 0, 2, -1, 0)
    for _ in range(RANDOM_ROUNDS):
        consumer, producer = link.storage()
        child = Forked(submit_for_ever)
        number = 0
        until = time.monotonic() + rng.uniform(0.001, 0.03)
        while time.monotonic() < until:
            number = serve(consumer.take(), number, producer.put)
            producer.flush()
        child.kill()
        number = serve(consumer.take(), number, producer.put)
        taken_total += number
        link.renew()
    assert taken_total > RANDOM_ROUNDS


def serve(group: list[tuple[int, ...]], number: int, put: object) -> int:
    """Check that the group goes on where the last one ended, complete it, return its last number."""
    assert group == [submission(each) for each in range(number + 1, number + 1 + len(group))]
    for entry in group:
        put(*completion(entry[S_REQUEST_ID]))  # type: ignore[operator]
    return number + len(group)


def test_request_ids_are_where_the_tests_look() -> None:
    assert submission(77)[S_REQUEST_ID] == completion(77)[C_REQUEST_ID] == 77

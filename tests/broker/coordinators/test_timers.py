"""One sorted structure for all deadlines."""

from __future__ import annotations

import random

from broker.coordinators.timers import Timers


def test_due_keys_come_in_the_order_of_their_deadlines() -> None:
    timers: Timers[str] = Timers()
    for key, deadline_ms in (("late", 30), ("early", 10), ("middle", 20)):
        timers.set(key, deadline_ms)
    assert timers.next_wake_ms() == 10
    assert timers.take_due(25) == ["early", "middle"]
    assert timers.take_due(30) == ["late"]
    assert (timers.next_wake_ms(), len(timers)) == (None, 0)


def test_a_later_deadline_counts_though_the_wake_stays_early() -> None:
    timers: Timers[str] = Timers()
    timers.set("member", 10)
    timers.set("member", 50)
    assert timers.next_wake_ms() == 10
    assert timers.take_due(10) == []
    assert timers.next_wake_ms() == 50
    assert timers.take_due(50) == ["member"]


def test_an_earlier_deadline_counts_at_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("member", 300_000)
    timers.set("member", 10)
    assert timers.next_wake_ms() == 10
    assert timers.take_due(10) == ["member"]


def test_a_cancelled_deadline_never_comes() -> None:
    timers: Timers[str] = Timers()
    timers.set("member", 10)
    timers.cancel("member")
    timers.cancel("nobody")
    assert timers.next_wake_ms() is None
    assert timers.take_due(100) == []


def test_against_a_plain_table() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    timers: Timers[int] = Timers()
    table: dict[int, int] = {}
    for now_ms in range(0, 2000, 5):
        for _ in range(4):
            key = dice.randrange(30)
            if dice.random() < 0.2:
                timers.cancel(key)
                table.pop(key, None)
            else:
                table[key] = now_ms + dice.randrange(1, 200)
                timers.set(key, table[key])
        due = timers.take_due(now_ms)
        assert [table[key] for key in due] == sorted(table[key] for key in due)
        assert set(due) == {key for key, deadline_ms in table.items() if deadline_ms <= now_ms}
        for key in due:
            del table[key]
        wake_ms = timers.next_wake_ms()
        assert (wake_ms is None) == (not table)
        assert wake_ms is None or wake_ms <= min(table.values())

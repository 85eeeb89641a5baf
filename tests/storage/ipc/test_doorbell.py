"""The doorbell counts entries."""
from __future__ import annotations

import select

from storage.ipc.doorbell import Doorbell


def test_rings_add_up_and_a_take_empties() -> None:
    bell = Doorbell.create()
    assert bell.take() == 0
    bell.ring(3)
    bell.ring(4)
    assert bell.take() == 7
    assert bell.take() == 0
    bell.close()
    bell.close()


def test_it_is_readable_exactly_while_entries_wait() -> None:
    bell = Doorbell.create()
    poller = select.poll()
    poller.register(bell.fileno(), select.POLLIN)
    assert poller.poll(0) == []
    bell.ring(1)
    assert [fd for fd, _ in poller.poll(0)] == [bell.fileno()]
    bell.take()
    assert poller.poll(0) == []

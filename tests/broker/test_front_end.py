"""What the front end does about faults of its own."""
from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from broker.front_end import SubmissionFlusher


class FailingLogDirs:
    """Its doorbell cannot be rung from the `good`th pass on."""

    def __init__(self, good: int) -> None:
        self._good = good

    def flush_submissions(self) -> None:
        self._good -= 1
        if self._good < 0:
            raise OSError("doorbell")


@pytest.mark.parametrize("good", [0, 1, 5])
def test_a_doorbell_that_cannot_be_rung_ends_the_loop_although_nothing_else_happens(good: int) -> None:
    flusher = SubmissionFlusher(cast(Any, FailingLogDirs(good)))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flusher.watch)
            for _ in range(good):
                await trio.sleep(0.001)
            await trio.sleep(5)
            raise AssertionError("still running")

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main, instruments=[flusher])
    assert caught.group_contains(OSError, match="doorbell")

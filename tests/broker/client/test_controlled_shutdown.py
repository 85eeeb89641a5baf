"""Controlled shutdown: asked again while something remains, as often as Kafka, and no longer."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from broker.client.controlled_shutdown import shut_down_controlled
from broker.client.controller_link import ControllerUnavailableError
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import response_class

pytestmark = pytest.mark.trio

Outcome = tuple[ErrorCode, int] | None
"""Error and number of remaining partitions; None: the controller process is gone."""


class Link:
    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.asked: list[tuple[int, int]] = []

    async def request(self, api_key: int, version: int, message: Any) -> Any:
        self.asked.append((message.broker_id, message.broker_epoch))
        await trio.lowlevel.checkpoint()
        outcome = self.outcomes.pop(0)
        if outcome is None:
            raise ControllerUnavailableError("gone")
        response = response_class(api_key)
        return response(error_code=outcome[0], remaining_partitions=[
            response.RemainingPartition(topic_name="t", partition_index=number) for number in range(outcome[1])])


@pytest.mark.parametrize(("outcomes", "succeeded", "count", "seconds"), [
    ([(ErrorCode.NONE, 0)], True, 1, 0),
    ([(ErrorCode.NOT_CONTROLLER, 0), (ErrorCode.NONE, 2), (ErrorCode.NONE, 0)], True, 3, 10),
    ([(ErrorCode.NONE, 2)] * 5, False, 3, 10),
    ([None, None], False, 1, 0),
])
async def test_attempts(outcomes: list[Outcome], succeeded: bool, count: int, seconds: float,
                        autojump_clock: trio.testing.MockClock) -> None:
    link = Link(list(outcomes))
    assert await shut_down_controlled(cast(Any, link), 4, 77, 3, 5000) is succeeded
    assert link.asked == [(4, 77)] * count
    assert trio.current_time() == pytest.approx(seconds)

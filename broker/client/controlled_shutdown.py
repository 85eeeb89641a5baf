"""Controlled shutdown: before this broker stops, the controller moves its leaderships elsewhere.

What: ControlledShutdown through the controller process, which answers itself if it leads and else passes it on;
again after controlled.shutdown.retry.backoff.ms while partitions remain or nobody leads, at most
controlled.shutdown.max.retries times, as Kafka. Then the broker stops anyway.
Runs in: front end, once, when it is told to stop.
"""

from __future__ import annotations

import logging

import trio

from broker.client.controller_link import ControllerLink, ControllerUnavailableError
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class

log = logging.getLogger(__name__)

CONTROLLED_SHUTDOWN_VERSION = 3


async def shut_down_controlled(
    link: ControllerLink, broker_id: int, broker_epoch: int, retries_max: int, backoff_ms: int
) -> bool:
    """Whether the controller knows, and nothing remains to be moved."""
    request = request_class(ApiKey.CONTROLLED_SHUTDOWN)(broker_id=broker_id, broker_epoch=broker_epoch)
    for attempt in range(retries_max):
        if attempt:
            await trio.sleep(backoff_ms / 1000)
        try:
            answer = await link.request(ApiKey.CONTROLLED_SHUTDOWN, CONTROLLED_SHUTDOWN_VERSION, request)
        except ControllerUnavailableError as error:
            log.warning("The controller cannot be told of this shutdown: %s", error)
            return False
        if answer.error_code == ErrorCode.NONE and not answer.remaining_partitions:
            log.info("The controller knows that this broker stops")
            return True
        if answer.error_code:
            log.info("Controlled shutdown: error %d from the controller", answer.error_code)
        else:
            log.info("Controlled shutdown: %d partitions have no other leader", len(answer.remaining_partitions))
    log.warning("Stopping although the controller has not moved every leadership")
    return False

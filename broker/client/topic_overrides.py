"""Overrides of topics that another node's controller speaks of, had before their logs are opened.

What: the controller process is asked (DescribeConfigs on the private stream) to read the topics' overrides in the
metadata store and to send them as AlterConfigs; `learn` ends when they have been taken.
Why: whoever creates a topic writes its overrides without notifying anybody, so a LeaderAndIsr by TCP would open
the log with defaults, and retention by default deletes. Why not in the answer: changes of overrides come as
AlterConfigs too, and only on one stream do the two have an order.
Why without a limit in time: with the metadata store away nobody can know how long records are to be kept; the
controller that asks repeats its request, as it does with a Kafka that waits for ZooKeeper.
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import trio

from broker.client.controller_link import ControllerLink, ControllerUnavailableError
from broker.metadata.cache import ZERO_UUID
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from broker.protocol.primitives import uuid_to_text

log = logging.getLogger(__name__)

DESCRIBE_CONFIGS_VERSION = 4
TOPIC_RESOURCE = 2
ARRIVAL_WAIT_S = 10.0
"""From the answer to the AlterConfigs; then the controller process is presumed dead and its successor asked."""

RETRY_PAUSE_S = 0.5
UNKNOWN_WAIT_S_MAX = 20.0
"""How far the metadata store's server that this node talks to may be behind the controller's: ZooKeeper drops a
server from the ensemble earlier than that (syncLimit, by default 10 s)."""


class TopicOverrides:
    """is_synchronized: what the controller process queued when this front end started has been taken."""

    def __init__(self, link: ControllerLink) -> None:
        self._link = link
        self._awaited: dict[str, trio.Event] = {}
        self.is_synchronized = False

    def arrived(self, topic: str) -> None:
        """An AlterConfigs for the topic has been taken."""
        event = self._awaited.pop(topic, None)
        if event is not None:
            event.set()

    async def learn(self, topics: Mapping[str, bytes]) -> set[str]:
        """Until the overrides of these topics have been taken; those that the metadata store does not know.

        topics: their ids by name, ZERO_UUID where there is none. Of those that are returned no log may be opened:
        they have gone meanwhile.
        """
        missing = set(topics)
        give_up_s = trio.current_time() + UNKNOWN_WAIT_S_MAX
        is_logged = False
        while missing:
            events = {topic: self._awaited.setdefault(topic, trio.Event()) for topic in missing}
            problem, unknown = await self._ask({topic: topics[topic] for topic in missing})
            if problem is None:
                await _all_set(event for topic, event in events.items() if topic not in unknown)
            elif not is_logged:
                log.warning("The overrides of %d topics cannot be had yet, their partitions wait: %s", len(missing),
                            problem)  # fmt: skip
                is_logged = True
            missing = {topic for topic, event in events.items() if not event.is_set()}
            if missing and missing == unknown and trio.current_time() >= give_up_s:
                break
            if missing:
                await trio.sleep(RETRY_PAUSE_S)
        for topic in missing:
            self._awaited.pop(topic, None)
        self.is_synchronized = True
        return missing

    async def _ask(self, topics: Mapping[str, bytes]) -> tuple[str | None, set[str]]:
        """(why nothing will come, topics of which nothing will come)."""
        describe = request_class(ApiKey.DESCRIBE_CONFIGS)
        message = describe(resources=[
            describe.DescribeConfigsResource(
                resource_type=TOPIC_RESOURCE, resource_name=topic,
                configuration_keys=[] if topic_id == ZERO_UUID else [uuid_to_text(topic_id)],
            )
            for topic, topic_id in topics.items()
        ])  # fmt: skip
        try:
            answer = await self._link.request(ApiKey.DESCRIBE_CONFIGS, DESCRIBE_CONFIGS_VERSION, message)
        except ControllerUnavailableError as error:
            return str(error), set()
        unknown = set()
        for result in answer.results:
            if result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                unknown.add(result.resource_name)
            elif result.error_code:
                return result.error_message or f"error {result.error_code}", set()
        return None, unknown


async def _all_set(events: Iterable[trio.Event]) -> None:
    with trio.move_on_after(ARRIVAL_WAIT_S):
        for event in events:
            await event.wait()

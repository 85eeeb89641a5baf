"""The topics that coordinators keep their state in: made when they are first needed (behaviour 78).

Why strict: with fewer brokers than offsets.topic.replication.factor names, creation fails and clients ask again,
as with Kafka; a topic with fewer replicas than the operator wants would stay so.
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
from typing import Any

from broker.client.controller_link import ControllerLink, ControllerUnavailableError
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class

log = logging.getLogger(__name__)

GROUP_METADATA_TOPIC = "__consumer_offsets"
CREATE_TOPICS_VERSION = 7
TIMEOUT_MS = 30_000
_HARMLESS = (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.TOPIC_ALREADY_EXISTS)


class InternalTopics:
    """One creation of a topic at a time; whoever needs it meanwhile asks again later."""

    def __init__(self, controller: ControllerLink, config: Any) -> None:
        self._controller = controller
        self._config = config
        self._under_way: set[str] = set()
        self._reported: dict[str, str] = {}

    async def create_group_metadata(self) -> None:
        """Ask the controller for __consumer_offsets; failures are logged, once each."""
        config = self._config
        await self._create(
            GROUP_METADATA_TOPIC, config["offsets.topic.num.partitions"],
            config["offsets.topic.replication.factor"],
            {
                "cleanup.policy": "compact",
                "segment.bytes": str(config["offsets.topic.segment.bytes"]),
                "compression.type": "producer",
            },
        )  # fmt: skip

    async def _create(
        self, name: str, partition_count: int, replication_factor: int, configs: dict[str, str]
    ) -> None:
        if name in self._under_way:
            return
        self._under_way.add(name)
        create = request_class(ApiKey.CREATE_TOPICS)
        topic = create.CreatableTopic(
            name=name, num_partitions=partition_count, replication_factor=replication_factor,
            configs=[create.CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )  # fmt: skip
        try:
            message = create(topics=[topic], timeout_ms=TIMEOUT_MS)
            answer = await self._controller.request(ApiKey.CREATE_TOPICS, CREATE_TOPICS_VERSION, message)
        except ControllerUnavailableError as error:
            self._report(name, str(error))
        else:
            for result in answer.topics:
                if result.error_code in _HARMLESS:
                    self._reported.pop(name, None)
                else:
                    code = ErrorCode(result.error_code).name
                    self._report(name, f"{code}: {result.error_message or 'no reason given'}")
        finally:
            self._under_way.discard(name)

    def _report(self, name: str, why: str) -> None:
        if self._reported.get(name) != why:
            self._reported[name] = why
            log.warning("Topic %s, which groups need, cannot be created: %s", name, why)

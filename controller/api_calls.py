"""Calls of the front end: to the module of their API, and the answers that wait for brokers.

Runs in: controller (trio clock). Owner: the event loop.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import trio

from broker.config.kafka_config import KafkaConfig
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import response_class
from controller.apis import (
    allocate_producer_ids,
    alter_partition,
    controlled_shutdown,
    create_partitions,
    create_topics,
    delete_topics,
    topic_overrides,
)
from controller.apis.waiting import WaitingAnswer
from controller.metadata_store.errors import StoreUnavailableError
from controller.procedures.runtime import ControllerMovedError, Runtime
from controller.request_server import ApiCall
from controller.store_access import StoreAccess


class ApiCalls:
    def __init__(self, runtime: Runtime, access: StoreAccess, config: KafkaConfig,
                 randrange: Callable[[int], int]) -> None:
        """randrange: as `random.Random.randrange`, for the placement of replicas."""
        self._runtime = runtime
        self._access = access
        self._config = config
        self._randrange = randrange
        self._waiting: list[tuple[WaitingAnswer, ApiCall, float]] = []

    async def serve(self, call: ApiCall) -> None:
        """Answer now or later. While this node does not lead: local calls only.

        ControllerMovedError after the call was refused; a lost store before it was answered.
        """
        self._access.patient = False
        try:
            waiting = await self._dispatch(call)
        except ControllerMovedError:
            refuse(call, ErrorCode.NOT_CONTROLLER)
            raise
        except StoreUnavailableError as error:
            refuse(call, ErrorCode.KAFKA_STORAGE_ERROR, str(error))
        else:
            self._wait_or_answer(call, waiting)
        finally:
            self._access.patient = True

    async def _dispatch(self, call: ApiCall) -> WaitingAnswer:
        match call.api_key:
            case ApiKey.CREATE_TOPICS:
                return await create_topics.create_topics(self._runtime, self._config, call.request,
                                                         self._randrange)
            case ApiKey.DELETE_TOPICS:
                return await delete_topics.delete_topics(self._runtime, call.request, call.api_version)
            case ApiKey.CREATE_PARTITIONS:
                return await create_partitions.create_partitions(self._runtime, call.request)
            case ApiKey.ALLOCATE_PRODUCER_IDS:
                return _at_once(await allocate_producer_ids.allocate_producer_ids(self._runtime, call.request))
            case ApiKey.ALTER_PARTITION:
                return _at_once(await alter_partition.alter_partition(self._runtime, call.request,
                                                                      call.api_version))
            case ApiKey.CONTROLLED_SHUTDOWN:
                return _at_once(await controlled_shutdown.controlled_shutdown(self._runtime, call.request))
            case ApiKey.DESCRIBE_CONFIGS:
                return _at_once(await topic_overrides.send_topic_overrides(self._runtime, call.request))
        raise AssertionError(f"no handler for API key {call.api_key}")

    def _wait_or_answer(self, call: ApiCall, waiting: WaitingAnswer) -> None:
        if not waiting.is_complete and waiting.timeout_ms > 0:
            self._waiting.append((waiting, call, trio.current_time() + waiting.timeout_ms / 1000))
            return
        waiting.time_out()
        call.answer(waiting.response)

    # What answers wait for

    def next_deadline(self) -> float:
        """On trio's clock; infinite while nothing waits."""
        return min((deadline for _, _, deadline in self._waiting), default=math.inf)

    def expire(self) -> None:
        now = trio.current_time()
        for waiting, _, deadline in self._waiting:
            if deadline <= now:
                waiting.time_out()
        self._answer_complete()

    def front_end_knows(self, update_metadata: Any) -> None:
        """It has taken this UpdateMetadata request."""
        if not self._waiting:
            return
        for topic in update_metadata.topic_states:
            led = [state.partition_index for state in topic.partition_states if state.leader >= 0]
            for waiting, _, _ in self._waiting:
                waiting.leaders_known(topic.topic_name, led)
        self._answer_complete()

    def topics_went(self, topics: Collection[str]) -> None:
        for waiting, _, _ in self._waiting:
            waiting.topics_went(topics)
        self._answer_complete()

    def _answer_complete(self) -> None:
        still: list[tuple[WaitingAnswer, ApiCall, float]] = []
        for entry in self._waiting:
            if entry[0].is_complete:
                entry[1].answer(entry[0].response)
            else:
                still.append(entry)
        self._waiting = still

    def resigned(self) -> None:
        """Another node leads, or nobody: what was done goes on, but this node will not hear of it."""
        for waiting, call, _ in self._waiting:
            waiting.time_out()
            call.answer(waiting.response)
        self._waiting.clear()

    def drop_all(self) -> None:
        """The front end that asked is gone."""
        self._waiting.clear()


def _at_once(response: Any) -> WaitingAnswer:
    return WaitingAnswer(response, timeout_ms=0, on_time_out=lambda name: None)


def refuse(call: ApiCall, code: ErrorCode, message: str | None = None) -> None:
    """The same error for everything in the call."""
    match call.api_key:
        case ApiKey.CREATE_TOPICS:
            response = create_topics.refuse_create_topics(call.request, code, message)
        case ApiKey.DELETE_TOPICS:
            response = delete_topics.refuse_delete_topics(call.request, code, message)
        case ApiKey.CREATE_PARTITIONS:
            response = create_partitions.refuse_create_partitions(call.request, code, message)
        case ApiKey.DESCRIBE_CONFIGS:
            response = topic_overrides.refuse_topic_overrides(call.request, code, message)
        case _:  # one error code for all of it
            response = response_class(call.api_key)(error_code=code)
    call.answer(response)

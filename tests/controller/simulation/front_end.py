"""Front ends that answer controllers as brokers do, and the connections on which they are reached.

A front end fences by controller epoch and broker epoch, takes partitions and metadata, and remembers what it was
told last: at the end that has to be what stands in the tree.

A request counts as an act of its sender at the moment when it is handed over to the connection; it arrives
later, or never, and so does the answer.

Runs in: the test process; connections in tasks of the sending node, front ends in callbacks of the timeline.
"""
from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import decode_request, encode_response, parse_request_header
from broker.protocol.messages import response_class
from controller.cluster import LEADER_DURING_DELETE, TopicPartition
from controller.request_batch import RESOURCE_TOPIC
from tests.controller.node import answer_of_a_good_broker
from tests.controller.simulation.network import Link, LinkMode
from tests.controller.simulation.scheduler import Timeline

CONNECT_SECONDS_MAX = 1.0
SIZE_PREFIX_BYTES = 4
_LOST_ANSWER_SHARE = 0.01


class FrontEnd:
    """What one front end knows. broker_epoch: of its registration, once it was told.

    partitions: (leader, leader epoch) of its own. metadata: (leader, leader epoch, partition epoch) of all.
    ask_for_overrides: of topics (with their ids) that are new here and of which another node's controller spoke.
    """

    def __init__(self, ask_for_overrides: Callable[[FrontEnd, Mapping[str, bytes]], None]) -> None:
        self._ask_for_overrides = ask_for_overrides
        self._awaited_overrides: set[str] = set()
        self.broker_epoch = -1
        self.controller_epoch = 0
        self.partitions: dict[TopicPartition, tuple[int, int]] = {}
        self.metadata: dict[TopicPartition, tuple[int, int, int]] = {}
        self.live_broker_ids: frozenset[int] = frozenset()
        self.topic_overrides: dict[str, dict[str, str]] = {}

    def answer(self, api_key: int, request: Any) -> Any:
        if api_key == ApiKey.ALTER_CONFIGS:
            self._configure(request)
            return answer_of_a_good_broker(api_key, request)
        fault = self.fault(request)
        return self.refuse(api_key, fault) if fault is not ErrorCode.NONE else self.do(api_key, request)

    def refuse(self, api_key: int, fault: ErrorCode) -> Any:
        return response_class(api_key)(error_code=fault)

    def do(self, api_key: int, request: Any) -> Any:
        response = answer_of_a_good_broker(api_key, request)
        match api_key:
            case ApiKey.LEADER_AND_ISR:
                self._become(request)
            case ApiKey.STOP_REPLICA:
                self._stop(request)
            case ApiKey.UPDATE_METADATA:
                self._learn(request)
        return response

    def want_overrides(self, request: Any) -> frozenset[str]:
        """Topics of this LeaderAndIsr that are new here: their overrides come before their logs are opened."""
        known = {key.topic for key in self.partitions}
        unknown = {topic.topic_name: bytes(topic.topic_id) for topic in request.topic_states
                   if topic.topic_name not in known}
        if unknown:
            self._awaited_overrides |= set(unknown)
            self._ask_for_overrides(self, unknown)
        return frozenset(unknown)

    def missing_overrides(self, topics: Iterable[str]) -> frozenset[str]:
        return frozenset(topics) & self._awaited_overrides

    def fault(self, request: Any) -> ErrorCode:
        if request.broker_epoch < self.broker_epoch:
            return ErrorCode.STALE_BROKER_EPOCH
        if request.controller_epoch < self.controller_epoch:
            return ErrorCode.STALE_CONTROLLER_EPOCH
        self.controller_epoch = request.controller_epoch
        return ErrorCode.NONE

    def _become(self, request: Any) -> None:
        for topic in request.topic_states:
            for state in topic.partition_states:
                key = TopicPartition(topic.topic_name, state.partition_index)
                if state.leader_epoch >= self.partitions.get(key, (0, -1))[1]:
                    self.partitions[key] = state.leader, state.leader_epoch

    def _stop(self, request: Any) -> None:
        for topic in request.topic_states:
            for state in topic.partition_states:
                if state.delete_partition:
                    self.partitions.pop(TopicPartition(topic.topic_name, state.partition_index), None)

    def _learn(self, request: Any) -> None:
        self.live_broker_ids = frozenset(broker.id for broker in request.live_brokers)
        for topic in request.topic_states:
            for state in topic.partition_states:
                key = TopicPartition(topic.topic_name, state.partition_index)
                if state.leader == LEADER_DURING_DELETE:
                    self.metadata.pop(key, None)
                    self.topic_overrides.pop(topic.topic_name, None)
                else:
                    self.metadata[key] = state.leader, state.leader_epoch, state.zk_version

    def _configure(self, request: Any) -> None:
        for resource in request.resources:
            if resource.resource_type == RESOURCE_TOPIC:
                self._awaited_overrides.discard(resource.resource_name)
                overrides = {config.name: config.value for config in resource.configs}
                if overrides:
                    self.topic_overrides[resource.resource_name] = overrides
                else:
                    self.topic_overrides.pop(resource.resource_name, None)


class FrontEndDoor:
    """Where a broker's front end can be reached; None while there is none. link: to other nodes."""

    def __init__(self, link: Link, is_running: Callable[[], bool]) -> None:
        self.link = link
        self.front_end: FrontEnd | None = None
        self.is_running = is_running


class Way(trio.abc.Stream):
    """A connection from a controller to one incarnation of a front end. on_act(api key, message)."""

    def __init__(self, timeline: Timeline, draw: random.Random, door: FrontEndDoor, link: Link | None,
                 on_act: Callable[[int, Any], None]) -> None:
        self._timeline = timeline
        self._draw = draw
        self._door = door
        self._front_end = door.front_end
        self._link = link
        self._on_act = on_act
        self._send, self._inbox = trio.open_memory_channel[bytes](math.inf)
        self._is_closed = False
        self._last_arrival = 0.0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """One whole frame."""
        frame = memoryview(data)[SIZE_PREFIX_BYTES:]
        header = parse_request_header(frame, 0, len(frame))
        message = decode_request(header.api_key, header.api_version, frame, header.body_position, len(frame))
        self._on_act(header.api_key, message)
        if self._is_broken():
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the connection is gone")

        def arrive() -> None:
            if self._is_broken() or self._front_end is None:
                self._break()
                return
            if not self._door.is_running():
                self._timeline.after(0.05, arrive)
                return
            def answer(response: Any) -> None:
                self._answer(encode_response(header.api_key, header.api_version, header.correlation_id, response))

            if header.api_key == ApiKey.LEADER_AND_ISR and self._link is not None:
                self._lead_and_follow(self._front_end, message, answer)
            else:
                answer(self._front_end.answer(header.api_key, message))

        self._timeline.at(self._next_arrival(), arrive)
        await trio.lowlevel.checkpoint()

    def _lead_and_follow(self, front_end: FrontEnd, message: Any, answer: Callable[[Any], None]) -> None:
        """Once the overrides of new topics are there; another node's controller does not send them."""
        fault = front_end.fault(message)
        if fault is not ErrorCode.NONE:
            answer(front_end.refuse(ApiKey.LEADER_AND_ISR, fault))
            return
        topics = front_end.want_overrides(message)

        def go_on() -> None:
            if self._is_broken():
                self._break()
            elif front_end.missing_overrides(topics) or not self._door.is_running():
                self._timeline.after(0.05, go_on)
            else:
                answer(front_end.do(ApiKey.LEADER_AND_ISR, message))

        go_on()

    def _answer(self, frame: bytes) -> None:
        if self._link is not None and self._draw.random() < _LOST_ANSWER_SHARE:
            self._break()
            return
        self._timeline.at(self._next_arrival(), lambda: None if self._is_closed else self._send.send_nowait(frame))

    def _next_arrival(self) -> float:
        delay = 0.0002 if self._link is None else self._link.delay_seconds()
        self._last_arrival = max(self._timeline.now() + delay, self._last_arrival)
        return self._last_arrival

    def _is_broken(self) -> bool:
        return self._is_closed or self._front_end is not self._door.front_end \
            or (self._link is not None and self._link.mode is not LinkMode.UP)

    def _break(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._send.close()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            raise trio.BrokenResourceError("the connection was reset") from None

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._break()
        await trio.lowlevel.checkpoint()


class Road:
    """`Transport` to another broker: refused while it is down or cut off."""

    def __init__(self, timeline: Timeline, draw: random.Random, door: FrontEndDoor,
                 on_act: Callable[[int, Any], None]) -> None:
        self._timeline = timeline
        self._draw = draw
        self._door = door
        self._on_act = on_act

    async def connect(self) -> trio.abc.Stream:
        link = self._door.link
        await trio.sleep(link.delay_seconds())
        if link.mode is LinkMode.BLACK_HOLE:
            await trio.sleep(CONNECT_SECONDS_MAX)
        if link.mode is not LinkMode.UP or self._door.front_end is None:
            raise ConnectionRefusedError("nobody there")
        return Way(self._timeline, self._draw, self._door, link, self._on_act)

    def close(self) -> None:
        """Nothing is held."""


class OwnRoad:
    """`Transport` to the own front end: one connection, once."""

    def __init__(self, way: Way) -> None:
        self._way: Way | None = way

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        way, self._way = self._way, None
        if way is None:
            from controller.channel import BrokerGoneError
            raise BrokerGoneError("the front end has closed its stream")
        return way

    def close(self) -> None:
        """Nothing is held."""


class NoCalls(trio.abc.Stream):
    """The front end's calls come by `EventLoop.post`: its stream stays silent."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError("an answer to a call that was never made")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

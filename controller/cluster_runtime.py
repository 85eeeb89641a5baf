"""Making decisions happen: the `Runtime` of the procedures over a store and the channels to brokers.

Holds the cluster's state and the batch of requests being collected; replays records, guards writes, reads a
partition again when somebody else has set it.

Runs in: controller (trio). Owner: the event loop, one event at a time.
"""
from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from broker.config.errors import ConfigError
from broker.config.kafka_config import KafkaConfig
from broker.protocol.primitives import uuid_to_text
from controller import znodes
from controller.channel import Channels
from controller.cluster import LeaderAndIsr, TopicPartition
from controller.config_overrides import ConfigOverrides
from controller.controller_election import Elected
from controller.decision import Decision, Write
from controller.inter_broker_version import features_of
from controller.lease import Lease
from controller.metadata_store.errors import BadVersionError, MultiError, NodeExistsError, StoreError
from controller.metadata_store.operations import GetData, GetDataResult, Operation, Outcome, Read
from controller.outside import Outside
from controller.procedures.runtime import ControllerMovedError
from controller.records import ControllerElected, LeadershipChanged
from controller.request_batch import BrokerRequest, RequestBatch
from controller.request_versions import request_versions
from controller.state import ControllerState
from controller.store_access import StoreAccess

_log = logging.getLogger(__name__)

REPORTED_PROBLEMS_MAX = 5


_SYSTEM_RANDOM = random.SystemRandom()


def new_uuid(source: random.Random = _SYSTEM_RANDOM) -> bytes:
    """Random, and none that Kafka reserves or that a command line would take for an option."""
    while True:
        uuid = source.randbytes(16)
        if any(uuid[:15]) and not uuid_to_text(uuid).startswith("-"):
            return uuid


def report(problems: Iterable[str]) -> None:
    """Log what a decision could not do; a dead broker means the same sentence for thousands of partitions."""
    sentences = list(problems)
    for sentence in sentences[:REPORTED_PROBLEMS_MAX]:
        _log.warning("%s", sentence)
    if len(sentences) > REPORTED_PROBLEMS_MAX:
        _log.warning("... and %d more like these", len(sentences) - REPORTED_PROBLEMS_MAX)


class ClusterRuntime:
    """See `procedures.runtime.Runtime` for its methods.

    on_topics_went: told the names of topics whose deletion is complete, or halted.
    """

    def __init__(self, access: StoreAccess, lease: Lease, channels: Channels, overrides: ConfigOverrides,
                 config: KafkaConfig, broker_id: int, outside: Outside) -> None:
        self._access = access
        self._lease = lease
        self._outside = outside
        self._channels = channels
        self._overrides = overrides
        self._config = config
        self._broker_id = broker_id
        self._features = features_of(config["inter.broker.protocol.version"])
        self._versions = request_versions(config["inter.broker.protocol.version"])
        self.on_topics_went: Callable[[Collection[str]], None] = lambda topics: None
        self.forget()

    def forget(self) -> None:
        """Resignation: the cluster is somebody else's business, or has to be read anew."""
        self._state = ControllerState()
        self._batch = RequestBatch(self._broker_id, self._config.inter_broker_listener_name, self._versions)
        self._channels.close_others()

    def begin(self, elected: Elected) -> None:
        self.forget()
        self._state.replay(ControllerElected(elected.epoch, elected.epoch_version))

    # What is known

    @property
    def state(self) -> ControllerState:
        return self._state

    @property
    def broker_id(self) -> int:
        return self._broker_id

    @property
    def deletion_enabled(self) -> bool:
        return bool(self._config["delete.topic.enable"])

    @property
    def uses_topic_ids(self) -> bool:
        return self._features.uses_topic_ids

    @property
    def recovery_state_supported(self) -> bool:
        return self._features.recovery_state_supported

    def new_topic_id(self) -> bytes:
        return new_uuid(self._outside.random)

    def unclean_allowed(self, topic: str) -> bool:
        try:
            values = self._config.resolve_topic(self._overrides.topics.get(topic, {}))
        except ConfigError as error:
            _log.warning("topic %r elects no unclean leader: %s", topic, error)
            return False
        return bool(values["unclean.leader.election.enable"])

    # The store

    async def read(self, requests: Sequence[Read]) -> list[Outcome]:
        return await self._access.read(requests)

    async def write(self, writes: Sequence[tuple[Operation, ...]]) -> list[Outcome]:
        return await self._access.write(self._state.epoch_version, writes)

    async def apply(self, decision: Decision) -> list[TopicPartition]:
        report(decision.problems)
        for record in decision.records:
            self._state.replay(record)
        self._batch.add(self._state, decision)
        if not decision.writes:
            return []
        outcomes = await self.write([write.operations for write in decision.writes])
        conflicts: list[TopicPartition] = []
        for write, outcome in zip(decision.writes, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                conflicts += self._failed(write, outcome)
            else:
                self._succeeded(write)
        return await self._read_again(conflicts)

    def _succeeded(self, write: Write) -> None:
        for record in write.records:
            self._state.replay(record)
        for target in write.targets:
            self._batch.add_leader_and_isr(self._state, target)

    def _failed(self, write: Write, error: StoreError) -> tuple[TopicPartition, ...]:
        """The partition whose state node somebody else has set, if that is why."""
        cause = error.cause if isinstance(error, MultiError) else error
        if write.partition is not None and isinstance(cause, BadVersionError | NodeExistsError):
            return (write.partition,)
        if not isinstance(cause, write.tolerated):
            _log.error("write failed: %s", cause)
        return ()

    async def _read_again(self, conflicts: list[TopicPartition]) -> list[TopicPartition]:
        """Replay the state nodes as they are now; those that are gone are given up."""
        readable = []
        outcomes = await self.read([GetData(znodes.partition_state_path(*key)) for key in conflicts])
        for key, outcome in zip(conflicts, outcomes, strict=True):
            current = _decoded(key, outcome)
            if current is None:
                _log.error("%s has lost its state node", key)
            elif current.controller_epoch > self._state.epoch:
                raise ControllerMovedError(f"{key} was set under controller epoch {current.controller_epoch}")
            else:
                self._state.replay(LeadershipChanged(key, current))
                readable.append(key)
        return readable

    # The brokers

    def send(self) -> None:
        if not self._lease.may_act(self._outside.boottime_ns()):
            raise ControllerMovedError("the lease has run out")
        for broker_id, request in self._batch.take(self._state):
            self._channels.enqueue(broker_id, request)

    async def refresh_overrides(self) -> None:
        if self._access.session_timeout_ms is None:
            return  # the embedded store has no other writer
        requests, problems = await self._overrides.refresh(self._access)
        report(problems)
        for request in requests:
            self._channels.enqueue(self._broker_id, request)

    def configure_topics(self, overrides: Mapping[str, Mapping[str, str]]) -> None:
        for request in self._overrides.topics_appeared(overrides):
            self._channels.enqueue(self._broker_id, request)

    def may_send(self, request: BrokerRequest) -> bool:
        """Asked when a request is about to leave: one under a controller epoch needs the lease of that epoch."""
        epoch = getattr(request.message, "controller_epoch", None)
        return epoch is None or (epoch == self._state.epoch and self._lease.may_act(self._outside.boottime_ns()))

    def reset_channel(self, broker_id: int) -> None:
        """The own front end's channel is renewed with its streams, not with its registration."""
        if broker_id == self._broker_id:
            return
        listener = self._config.inter_broker_listener_name
        endpoint = next((each for each in self._state.brokers[broker_id].endpoints
                         if each.listener == listener), None)
        if endpoint is not None and endpoint.security_protocol == "PLAINTEXT":
            self._channels.open(broker_id, self._outside.transport_to(broker_id, endpoint))
            return
        self._channels.close(broker_id)
        _log.error("broker %d is told nothing: %s", broker_id, (
            f"it has no listener {listener} (inter.broker.listener.name)" if endpoint is None else
            f"its listener {listener} is {endpoint.security_protocol}, and only PLAINTEXT is spoken between "
            "brokers in this version"))

    def close_channel(self, broker_id: int) -> None:
        if broker_id != self._broker_id:
            self._channels.close(broker_id)

    def topics_went(self, topics: Collection[str]) -> None:
        gone = [topic for topic in topics if topic not in self._state.topics]
        for request in self._overrides.topics_went(gone):
            self._channels.enqueue(self._broker_id, request)
        self.on_topics_went(topics)


def _decoded(key: TopicPartition, outcome: Outcome) -> LeaderAndIsr | None:
    if not isinstance(outcome, GetDataResult):
        return None
    try:
        return znodes.decode_partition_state(key, outcome.data, outcome.stat.version)
    except znodes.ZnodeFormatError as error:
        _log.error("%s", error)
        return None

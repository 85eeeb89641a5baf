"""Configuration overrides kept in the metadata store, and how this node's front end learns of them (PURE).

The front end has no session with the store: it is sent AlterConfigs requests that hold a resource's complete
overrides. Everything once when the front end starts, then each change as its notification under
`/config/changes` comes, in the order of the notifications.

Runs in: controller. Owner: the event loop.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controller import znodes
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Delete,
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
    Outcome,
)
from controller.request_batch import RESOURCE_BROKER, RESOURCE_TOPIC, BrokerRequest, alter_configs_request
from controller.znodes import ConfigChange

NOTIFICATION_AGE_MS_MAX = 15 * 60 * 1000
"""As in Kafka: whoever reads an older notification deletes it."""

RESOURCES_PER_REQUEST_MAX = 1000
"""Keeps a request of a node with very many configured topics to some hundreds of kilobytes."""


class ConfigOverrides:
    """Overrides of topics, of this broker and of all brokers. Entities without overrides are left out.

    broker_id: whose overrides count; the default of all brokers has the name "" towards the front end.
    """

    def __init__(self, broker_id: int) -> None:
        self._broker_entities = {znodes.DEFAULT_ENTITY: "", str(broker_id): str(broker_id)}
        self.topics: dict[str, Mapping[str, str]] = {}
        self.brokers: dict[str, Mapping[str, str]] = {}
        self._last_change = -1
        self._is_complete = False

    # Reading

    def must_be_read_anew(self) -> None:
        """Notifications may have been missed: they are deleted after a while."""
        self._is_complete = False

    async def read_all(self, store: MetadataStore) -> list[str]:
        """Arm the watch on changes, forget what was known and read everything. Problems for the log.

        What was known stays, and is not complete, when the store does not answer.
        """
        self._is_complete = False
        (changes, topics) = await store.submit([
            GetChildren(znodes.CONFIG_CHANGES, watch=True), GetChildren(f"/config/{znodes.TOPIC_CONFIGS}")])
        entities = [ConfigChange(znodes.BROKER_CONFIGS, entity) for entity in self._broker_entities]
        if isinstance(topics, GetChildrenResult):
            entities += [ConfigChange(znodes.TOPIC_CONFIGS, topic) for topic in topics.children]
        outcomes = await self._fetch(store, entities)
        if isinstance(changes, GetChildrenResult):
            # Notifications that are there already are covered by reading everything after them.
            self._last_change = max(map(_number, changes.children), default=-1)
        self.topics.clear()
        self.brokers.clear()
        self._is_complete = True
        return self._keep_all(entities, outcomes)

    async def refresh(self, store: MetadataStore) -> tuple[list[BrokerRequest], list[str]]:
        """Read everything again: requests for what is new. Topics come with overrides and without a notification;
        the controller that makes them tells the brokers, and may die before it does."""
        was_complete, topics, brokers = self._is_complete, dict(self.topics), dict(self.brokers)
        everything, problems = await self._read_anew(store)
        if not was_complete:
            return everything, problems
        names = {name: entity for entity, name in self._broker_entities.items()}
        changed = [ConfigChange(znodes.BROKER_CONFIGS, names[name]) for name in {**brokers, **self.brokers}
                   if brokers.get(name) != self.brokers.get(name)]
        changed += [ConfigChange(znodes.TOPIC_CONFIGS, topic) for topic in {**topics, **self.topics}
                    if topics.get(topic) != self.topics.get(topic)]
        return self.requests(changed), problems

    async def _read_anew(self, store: MetadataStore) -> tuple[list[BrokerRequest], list[str]]:
        """Requests that make true for the front end what is true now, whatever it was told before."""
        names = {name: entity for entity, name in self._broker_entities.items()}
        told = [ConfigChange(znodes.TOPIC_CONFIGS, topic) for topic in self.topics]
        told += [ConfigChange(znodes.BROKER_CONFIGS, names[name]) for name in self.brokers]
        problems = await self.read_all(store)
        gone = [entity for entity in told if not self._has(entity)]
        return [*self.requests(gone), *self.requests_for_all()], problems

    def _has(self, entity: ConfigChange) -> bool:
        if entity.entity_type == znodes.TOPIC_CONFIGS:
            return entity.entity in self.topics
        return self._broker_entities[entity.entity] in self.brokers

    async def read_changes(self, store: MetadataStore, now_ms: int) -> tuple[list[BrokerRequest], list[str]]:
        """Process new notifications: requests to the front end, and problems. Old notifications go.

        All is read again if `read_all` was not answered, or things were missed.
        """
        if not self._is_complete:
            return await self._read_anew(store)
        (listed,) = await store.submit([GetChildren(znodes.CONFIG_CHANGES, watch=True)])
        if not isinstance(listed, GetChildrenResult):
            return [], []
        new = sorted((_number(name), name) for name in listed.children if _number(name) > self._last_change)
        paths = [f"{znodes.CONFIG_CHANGES}/{name}" for _, name in new]
        changed: dict[ConfigChange, None] = {}
        problems: list[str] = []
        outcomes = await store.submit([GetData(path) for path in paths])
        for path, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, GetDataResult):
                try:
                    changed[znodes.decode_config_change(path, outcome.data)] = None
                except znodes.ZnodeFormatError as error:
                    problems.append(str(error))
        entities = [change for change in changed if self._concerns_us(change)]
        problems += self._keep_all(entities, await self._fetch(store, entities))
        self._last_change = max([self._last_change, *(number for number, _ in new)])
        self._is_complete = False  # if the purge gets no answer, these requests are not sent
        await self._purge(store, listed.children, now_ms)
        self._is_complete = True
        return self.requests(entities), problems

    def _concerns_us(self, change: ConfigChange) -> bool:
        return change.entity_type == znodes.TOPIC_CONFIGS or (
            change.entity_type == znodes.BROKER_CONFIGS and change.entity in self._broker_entities)

    async def _fetch(self, store: MetadataStore, entities: Sequence[ConfigChange]) -> list[Outcome]:
        return await store.submit([GetData(_path(entity)) for entity in entities])

    def _keep_all(self, entities: Sequence[ConfigChange], outcomes: Sequence[Outcome]) -> list[str]:
        problems: list[str] = []
        for entity, outcome in zip(entities, outcomes, strict=True):
            try:
                config = znodes.decode_config(_path(entity), outcome.data) if isinstance(
                    outcome, GetDataResult) else {}
            except znodes.ZnodeFormatError as error:
                problems.append(f"overrides are left out: {error}")
            else:
                self._keep(entity, config)
        return problems

    def _keep(self, entity: ConfigChange, config: Mapping[str, str]) -> None:
        if entity.entity_type == znodes.TOPIC_CONFIGS:
            kept, name = self.topics, entity.entity
        else:
            kept, name = self.brokers, self._broker_entities[entity.entity]
        if config:
            kept[name] = config
        else:
            kept.pop(name, None)

    async def _purge(self, store: MetadataStore, children: Sequence[str], now_ms: int) -> None:
        paths = [f"{znodes.CONFIG_CHANGES}/{name}" for name in children if _number(name) >= 0]
        outcomes = await store.submit([GetData(path) for path in paths])
        old = [path for path, outcome in zip(paths, outcomes, strict=True) if isinstance(outcome, GetDataResult)
               and outcome.stat.ctime_ms < now_ms - NOTIFICATION_AGE_MS_MAX]
        if old:
            await store.submit([Delete(path) for path in old])

    # Telling

    def topics_appeared(self, overrides: Mapping[str, Mapping[str, str]]) -> list[BrokerRequest]:
        """New topics that have overrides."""
        self.topics.update(overrides)
        return self.requests([ConfigChange(znodes.TOPIC_CONFIGS, topic) for topic in overrides])

    def topics_went(self, topics: Iterable[str]) -> list[BrokerRequest]:
        """UpdateMetadata tells the front end of deleted topics, but not of one that went before it was ever led:
        its overrides must not wait there for a namesake."""
        had_some = [topic for topic in topics if self.topics.pop(topic, None)]
        return self.requests([ConfigChange(znodes.TOPIC_CONFIGS, topic) for topic in had_some])

    def requests_for_all(self) -> list[BrokerRequest]:
        """For a front end that knows nothing yet."""
        brokers = [(RESOURCE_BROKER, name, config) for name, config in self.brokers.items()]
        return _requests(brokers + [(RESOURCE_TOPIC, name, config) for name, config in self.topics.items()])

    def requests(self, entities: Sequence[ConfigChange]) -> list[BrokerRequest]:
        """These entities as they are now, without overrides too."""
        resources: list[tuple[int, str, Mapping[str, str]]] = []
        for entity_type, entity in ((entity.entity_type, entity.entity) for entity in entities):
            if entity_type == znodes.TOPIC_CONFIGS:
                resources.append((RESOURCE_TOPIC, entity, self.topics.get(entity, {})))
            else:
                name = self._broker_entities[entity]
                resources.append((RESOURCE_BROKER, name, self.brokers.get(name, {})))
        return _requests(resources)


def _path(entity: ConfigChange) -> str:
    return znodes.config_path(entity.entity_type, entity.entity)


def _number(name: str) -> int:
    number = znodes.sequence_number(name, znodes.CONFIG_CHANGE_PREFIX)
    return -1 if number is None else number


def _requests(resources: Sequence[tuple[int, str, Mapping[str, str]]]) -> list[BrokerRequest]:
    return [alter_configs_request(resources[first:first + RESOURCES_PER_REQUEST_MAX])
            for first in range(0, len(resources), RESOURCES_PER_REQUEST_MAX)]

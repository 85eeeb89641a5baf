"""The node's sessions with its metadata store, of either kind, from start to stop.

| | embedded | ZooKeeper |
|---|---|---|
| first session | resumed with what the supervisor kept, else new | the same, else what the file kept |
| a new session after expiry | never | whenever the event loop asks |
| kept | by the supervisor | by the supervisor and in a file (`kept_session`) |
| clean stop | the session ends, the file is closed | the session ends, the kept one is forgotten |

A node that starts is refused when ZooKeeper does not answer, as Kafka's is. A controller process that is
started again under a running node waits for ever: producing and consuming go on without it.

Runs in: controller (trio). Made after the fork.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from broker.config.kafka_config import KafkaConfig
from controller.kept_session import KeptSession
from controller.metadata_store.embedded import EmbeddedDatabase, description_of_this_process
from controller.metadata_store.errors import StoreError, StoreRefusedError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId

_log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
END_SECONDS_MAX = 2.0
"""A session that cannot be ended in this time expires by itself."""


class NodeSessions(Protocol):
    store_name: str
    """For sentences: which metadata store this is."""

    async def open(self) -> MetadataStore:
        """The first session of this process."""

    async def renew(self) -> MetadataStore:
        """A new one, after the last one expired. Any StoreError: ask again."""

    async def owner(self) -> int | None:
        """The broker that the store belongs to, if it can belong to one."""

    async def claim(self, broker_id: int) -> None:
        """StoreRefusedError when it belongs to another broker."""

    async def end(self, session_owner: MetadataStore) -> None:
        """A clean stop: the session's nodes go."""

    async def close(self) -> None:
        """Let go of the store; the session lives on until it expires or is resumed."""


class EmbeddedSessions:
    def __init__(self, config: KafkaConfig, kept: SessionId | None, keep: Callable[[SessionId], None]) -> None:
        self.store_name = config.metadata_path
        self._config = config
        self._kept = kept
        self._keep = keep
        self._opened: EmbeddedDatabase | None = None

    @property
    def _database(self) -> EmbeddedDatabase:
        assert self._opened is not None
        return self._opened

    async def open(self) -> MetadataStore:
        path = self._config.metadata_path
        description = description_of_this_process(self._config["broker.id"])
        try:
            self._opened = await EmbeddedDatabase.open(path, description=description)
        except OSError as error:
            raise StoreRefusedError(path, f"the metadata cannot be opened: {error.strerror}. "
                                    "ottla.metadata.path must lie in a directory that can be written") from error
        store = await self._database.open_session(self._kept)
        self._keep(store.session)
        return store

    async def renew(self) -> MetadataStore:
        raise AssertionError("sessions of the embedded store end with this process")

    async def owner(self) -> int | None:
        return await self._database.owner()

    async def claim(self, broker_id: int) -> None:
        await self._database.claim(broker_id)

    async def end(self, session_owner: MetadataStore) -> None:
        await session_owner.close()

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()


class ZooKeeperSessions:
    """kept: by the supervisor, so this is not the node's first controller process."""

    def __init__(self, config: KafkaConfig, kept: SessionId | None, keep: Callable[[SessionId], None]) -> None:
        from controller.metadata_store.zookeeper_settings import settings_from

        self._settings = settings_from(config)
        self.store_name = f"ZooKeeper at {self._settings.hosts}{self._settings.chroot}"
        self._is_restart = kept is not None
        self._keep = keep
        self._file = KeptSession(config.log_dirs[0], self._settings.hosts + self._settings.chroot)
        self._kept = kept or self._file.read()

    async def open(self) -> MetadataStore:
        is_logged = False
        while True:
            try:
                return await self._open(self._kept)
            except StoreError as error:
                if not self._is_restart:
                    raise error if isinstance(error, StoreRefusedError) else StoreRefusedError(
                        "", f"{self.store_name} cannot be used: {error or type(error).__name__}") from error
                if not is_logged:
                    _log.warning("no session with %s yet, trying until there is one: %s", self.store_name, error)
                is_logged = True
            await trio.sleep(RETRY_SECONDS)

    async def renew(self) -> MetadataStore:
        return await self._open(None)

    async def _open(self, kept: SessionId | None) -> MetadataStore:
        from controller.metadata_store.zookeeper import open_session

        store = await open_session(self._settings, kept)
        self._file.write(store.session)
        self._keep(store.session)
        return store

    async def owner(self) -> int | None:
        return None

    async def claim(self, broker_id: int) -> None:
        """ZooKeeper serves any number of brokers."""

    async def end(self, session_owner: MetadataStore) -> None:
        with trio.move_on_after(END_SECONDS_MAX) as limit:
            await session_owner.close()
        if limit.cancelled_caught:
            _log.warning("session %#x could not be ended in time: it expires by itself", session_owner.session.id)
        else:
            self._file.remove()

    async def close(self) -> None:
        """Nothing is held but the connection, which goes with the process."""


def sessions_of(config: KafkaConfig, kept: SessionId | None, keep: Callable[[SessionId], None]) -> NodeSessions:
    """kept: what the supervisor has kept, if this is not the first controller process. keep: told each session
    of this process."""
    return EmbeddedSessions(config, kept, keep) if config.embedded else ZooKeeperSessions(config, kept, keep)

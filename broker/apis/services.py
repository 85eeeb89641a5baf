"""What request handlers may use: the front end's state, gathered and named.

Why a plain record: a handler's needs are visible at its call sites, and no object "knows everything" about
how the others work (Kafka's KafkaApis is the warning).
Runs in: front end. Made once by `broker.front_end`; every field's owner is that field's own module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from broker.client.controller_link import ControllerLink
from broker.client.topic_overrides import TopicOverrides
from broker.coordinators.group_service import GroupService
from broker.log_dirs.helper_link import HelperLink
from broker.log_dirs.log_dirs import LogDirs
from broker.metadata.cache import MetadataCache
from broker.replica.fetch_purgatory import FetchPurgatory
from broker.replica.fetch_session import FetchSessions
from broker.replica.producer_ids import ProducerIds
from broker.replica.registry import PartitionRegistry
from broker.replica.role_changes import RoleChanges


@dataclass(slots=True)
class Services:
    """config: the KafkaConfig. wall_clock_ms: milliseconds since 1970. start_soon: starts a task
    beside the connections. directory_sizes: asks a directory's storage process for [topic, partition, bytes],
    None when it does not answer. overrides: asks the controller process for overrides of topics that another
    node's controller speaks of. informed: set once a controller has told what clients may be told."""

    config: Any
    broker_id: int
    cluster_id: str
    wall_clock_ms: Callable[[], int]
    metadata: MetadataCache
    registry: PartitionRegistry
    log_dirs: LogDirs
    purgatory: FetchPurgatory
    sessions: FetchSessions
    controller: ControllerLink
    producer_ids: ProducerIds
    helpers: HelperLink
    roles: RoleChanges
    overrides: TopicOverrides
    groups: GroupService
    start_soon: Callable[..., None]
    directory_sizes: Callable[[int], Awaitable[list[list[Any]] | None]]
    broker_epoch: int = -1
    informed: trio.Event = field(default_factory=trio.Event)

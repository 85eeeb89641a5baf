"""What the log directories say about whose they are, and which partitions lie in them.

All of them are asked before any is touched (REVIEW item 26): a directory of another cluster or broker ends
the start while every directory is still as it was found. Each storage process asks its own again.

Runs in: controller, at its start, when nothing else happens in it (blocking calls). No state.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from controller import znodes
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Exists, ExistsResult
from storage.checkpoint.meta_properties import (
    META_PROPERTIES,
    ForeignDirectoryError,
    MetaProperties,
    check_owner,
    read_meta_properties,
)
from storage.log.survey import live_partitions

NAMED_DIRECTORIES_MAX = 5
"""In a log line; a forgotten metadata file may leave thousands."""


@dataclass(frozen=True, slots=True)
class Claims:
    """found: meta.properties by path. directories: all that can be read. unreadable: with the reason; such a
    directory is offline, or will be."""

    found: dict[str, MetaProperties]
    directories: tuple[str, ...]
    unreadable: dict[str, str]

    @property
    def cluster_id(self) -> tuple[str, str] | None:
        """(cluster id, the file that says so)."""
        return next(((found.cluster_id, path) for path, found in self.found.items()
                     if found.cluster_id is not None), None)

    @property
    def broker_id(self) -> tuple[int, str] | None:
        """(broker id, the file that says so)."""
        return next(((found.broker_id, path) for path, found in self.found.items()
                     if found.broker_id is not None), None)

    def check_agreement(self) -> None:
        """ForeignDirectoryError when the directories are of different clusters or brokers."""
        for key, values in (
                ("cluster.id", {path: found.cluster_id for path, found in self.found.items()}),
                ("broker.id", {path: found.broker_id for path, found in self.found.items()})):
            said = {path: value for path, value in values.items() if value is not None}
            if len(set(said.values())) > 1:
                sentences = ", ".join(f"{path} says {key}={value}" for path, value in said.items())
                raise ForeignDirectoryError(
                    f"the log directories do not belong together: {sentences}. Take those that are not this "
                    "broker's out of log.dirs")

    def check_owner(self, cluster_id: str | None, broker_id: int) -> None:
        """ForeignDirectoryError unless this broker of this cluster may use all of them."""
        for path, found in self.found.items():
            check_owner(path, found, cluster_id, broker_id)


def read_claims(directories: Sequence[str]) -> Claims:
    """Raises CorruptLogError for a meta.properties that Kafka would refuse too, ForeignDirectoryError."""
    found: dict[str, MetaProperties] = {}
    readable: list[str] = []
    unreadable: dict[str, str] = {}
    for directory in map(os.path.abspath, directories):
        path = os.path.join(directory, META_PROPERTIES)
        try:
            properties = read_meta_properties(path)
            os.listdir(directory)
        except OSError as error:
            unreadable[directory] = error.strerror or str(error)
            continue
        readable.append(directory)
        if properties is not None:
            found[path] = properties
    claims = Claims(found, tuple(readable), unreadable)
    claims.check_agreement()
    return claims


async def describe_unknown(store: MetadataStore, directories: Sequence[str]) -> list[str]:
    """A sentence for each topic of which partitions lie in the directories that the metadata do not know.

    They are left alone: their topic was deleted while the directory was away, or the metadata are older.
    """
    partitions = [partition for directory in directories for partition in live_partitions(directory)]
    outcomes = await store.submit([
        Exists(znodes.partition_state_path(each.topic, each.partition)) for each in partitions])
    unknown: dict[str, list[str]] = {}
    for partition, outcome in zip(partitions, outcomes, strict=True):
        if isinstance(outcome, ExistsResult) and outcome.stat is None:
            unknown.setdefault(partition.topic, []).append(partition.path)
    return [f"{len(paths)} partition{'s' if len(paths) > 1 else ''} of topic {topic!r} "
            f"{'are' if len(paths) > 1 else 'is'} not in the metadata and left alone: {_some(paths)}. "
            "Remove what is not needed" for topic, paths in sorted(unknown.items())]


def _some(paths: Sequence[str]) -> str:
    named = ", ".join(paths[:NAMED_DIRECTORIES_MAX])
    more = len(paths) - NAMED_DIRECTORIES_MAX
    return named if more <= 0 else f"{named} and {more} more"

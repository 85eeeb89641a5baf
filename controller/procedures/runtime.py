"""What a procedure may ask of the world. The event loop implements it; so do the tests (PURE).

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from controller.cluster import TopicPartition
from controller.decision import Decision
from controller.metadata_store.operations import Operation, Outcome, Read
from controller.state import ControllerState


class ControllerMovedError(Exception):
    """The epoch node has another version: somebody else leads. Nothing was written; drop all state."""


class Runtime(Protocol):
    @property
    def state(self) -> ControllerState:
        """Read it; only `apply` changes it."""

    @property
    def broker_id(self) -> int:
        """Of this node."""

    @property
    def deletion_enabled(self) -> bool:
        """delete.topic.enable."""

    @property
    def uses_topic_ids(self) -> bool:
        """The inter-broker version is at least 2.8."""

    @property
    def recovery_state_supported(self) -> bool:
        """The inter-broker version is at least 3.2."""

    def new_topic_id(self) -> bytes:
        """16 random bytes, no reserved value."""

    def unclean_allowed(self, topic: str) -> bool:
        """unclean.leader.election.enable of the topic."""

    async def read(self, requests: Sequence[Read]) -> list[Outcome]:
        """One outcome each."""

    async def apply(self, decision: Decision) -> list[TopicPartition]:
        """Make a decision happen and collect what brokers must be told.

        Returns the partitions whose conditional write met a newer state node; their state has been read
        again and replayed, the caller decides anew. ControllerMovedError.
        """

    async def write(self, writes: Sequence[tuple[Operation, ...]]) -> list[Outcome]:
        """Each group of operations is one multi under the epoch guard; one outcome each, the guard's own
        result not shown. ControllerMovedError."""

    def send(self) -> None:
        """Hand the collected requests to the brokers' channels."""

    async def refresh_overrides(self) -> None:
        """Read all overrides again, where somebody else may have written some without a notification, and tell
        this node's front end what is new."""

    def configure_topics(self, overrides: Mapping[str, Mapping[str, str]]) -> None:
        """Tell this node's front end the overrides of topics that have appeared."""

    def reset_channel(self, broker_id: int) -> None:
        """Drop what is queued for the broker: it came, or came back with another epoch."""

    def close_channel(self, broker_id: int) -> None:
        """The broker is gone."""

    def topics_went(self, topics: Collection[str]) -> None:
        """Deletion of these topics is complete, or halted with nothing left to do on live brokers."""

"""Answers that wait until this node's front end has heard of what was done (PURE).

Kafka answers CreateTopics and CreatePartitions when the controller's own metadata cache knows a leader for
every new partition, DeleteTopics when it has forgotten the topics; after the request's time-out, what is
still missing is REQUEST_TIMED_OUT, although it was done and goes on.

Runs in: controller. Owner: the event loop.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any


class WaitingAnswer:
    """One response and what it waits for.

    leaders: topic -> partitions without a known leader. topics: still to be deleted. on_time_out: told each
    topic that was too slow, to mark its results.
    """

    def __init__(self, response: Any, *, timeout_ms: int, on_time_out: Callable[[str], None],
                 leaders: Mapping[str, Collection[int]] | None = None, topics: Iterable[str] = ()) -> None:
        self.response = response
        self.timeout_ms = timeout_ms
        self._on_time_out = on_time_out
        self._leaders = {topic: set(partitions) for topic, partitions in (leaders or {}).items()}
        self._topics = set(topics)

    @property
    def is_complete(self) -> bool:
        return not self._leaders and not self._topics

    def leaders_known(self, topic: str, partitions: Iterable[int]) -> None:
        """The front end has been told leaders of these partitions."""
        missing = self._leaders.get(topic)
        if missing is not None:
            missing.difference_update(partitions)
            if not missing:
                del self._leaders[topic]

    def topics_went(self, topics: Iterable[str]) -> None:
        self._topics.difference_update(topics)

    def time_out(self) -> None:
        """The response tells what is missing; afterwards it is complete."""
        for topic in sorted({*self._leaders, *self._topics}):
            self._on_time_out(topic)
        self._leaders.clear()
        self._topics.clear()

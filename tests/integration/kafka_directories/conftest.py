"""One Kafka's work for the module, and the two stories that go on from it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka_directories.stories import KafkaPart, Story, play_kafka
from tests.peers.kafka_cluster import ZooKeeper

KINDS = ("killed", "clean")


@pytest.fixture(scope="session")
def kafka_part(kafka_libs: Path, zookeeper: ZooKeeper, tmp_path_factory: pytest.TempPathFactory) -> KafkaPart:
    return play_kafka(kafka_libs, zookeeper, tmp_path_factory.mktemp("kafka-part"))


@pytest.fixture(scope="session")
def stories(kafka_part: KafkaPart, kafka_libs: Path, zookeeper: ZooKeeper,
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Story]]:
    made = {kind: Story(kind, kafka_part, kafka_libs, zookeeper, tmp_path_factory.mktemp(f"story-{kind}"))
            for kind in KINDS}
    yield made
    for story in made.values():
        story.close()


@pytest.fixture(params=KINDS)
def story(request: pytest.FixtureRequest, stories: dict[str, Story]) -> Story:
    """Named after how Kafka ended; see `stories`."""
    return stories[request.param]

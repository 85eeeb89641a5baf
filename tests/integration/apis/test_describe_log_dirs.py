"""DescribeLogDirs: behaviour 81."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import ApiBroker, Topic
from tests.integration.apis.records import of_size
from tests.integration.apis.requests import append
from tests.integration.apis.wire import Client, versions

DescribeLogDirsRequest = request_class(ApiKey.DESCRIBE_LOG_DIRS)
ALL_VERSIONS = versions(ApiKey.DESCRIBE_LOG_DIRS)


def describe(client: Client, version: int, wanted: dict[str, list[int]] | None) -> list[Any]:
    """wanted: topic -> partitions; None asks for all."""
    topics = None
    if wanted is not None:
        describable = DescribeLogDirsRequest.DescribableLogDirTopic
        topics = [describable(topic=name, partitions=numbers) for name, numbers in wanted.items()]
    answer = client.call(ApiKey.DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(topics=topics))
    assert answer.error_code == 0
    return sorted(answer.results, key=lambda result: str(result.log_dir))


def partitions_of(results: list[Any]) -> dict[tuple[str, int], Any]:
    """Every replica in all directories, none of them twice."""
    found = [
        ((topic.name, partition.partition_index), partition)
        for result in results for topic in result.topics for partition in topic.partitions
    ]  # fmt: skip
    assert len(dict(found)) == len(found)
    return dict(found)


def filled_topic(broker: ApiBroker, client: Client) -> tuple[Topic, list[int]]:
    """A topic of two partitions, and their sizes in bytes."""
    topic = broker.topic("sized", partitions=2)
    sizes = []
    for number in range(2):
        records = of_size(500 * (number + 1))
        append(client, topic, records, records, partition=number)
        sizes.append(2 * len(records))
    return topic, sizes


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_81_every_directory_is_listed_with_the_sizes_of_its_logs(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic, sizes = filled_topic(broker, client)
    results = describe(client, version, None)
    assert [result.log_dir for result in results] == sorted(map(str, broker.node.log_dirs))
    found = partitions_of(results)
    for number, size_bytes in enumerate(sizes):
        partition = found[topic.name, number]
        assert partition.partition_size == size_bytes
        assert (partition.offset_lag, partition.is_future_key) == (0, False)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_81_topics_and_partitions_can_be_chosen(broker: ApiBroker, client: Client, version: int) -> None:
    topic, sizes = filled_topic(broker, client)
    results = describe(client, version, {topic.name: [1, 5], "missing": [0]})
    assert len(results) == 2
    assert [result.error_code for result in results] == [0, 0]
    found = partitions_of(results)
    assert {place: partition.partition_size for place, partition in found.items()} == {
        (topic.name, 1): sizes[1]}  # fmt: skip


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_81_an_empty_choice_lists_directories_without_logs(client: Client, version: int) -> None:
    results = describe(client, version, {})
    assert [list(result.topics) for result in results] == [[], []]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_81_the_volume_s_bytes_are_named_from_version_4(client: Client, version: int) -> None:
    for result in describe(client, version, {}):
        if version >= 4:
            assert 0 < result.usable_bytes < result.total_bytes
        else:
            assert (result.total_bytes, result.usable_bytes) == (-1, -1)


def test_81_partitions_are_spread_over_the_directories(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("spread", partitions=6)
    results = describe(client, 4, {topic.name: list(range(6))})
    counts = [sum(len(each.partitions) for each in result.topics) for result in results]
    assert sum(counts) == 6
    assert min(counts) > 0

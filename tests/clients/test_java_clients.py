"""Java clients of five releases write and read back every record; librdkafka reads the same."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.dataset import (
    PARTITIONS,
    RECORDS_FULL,
    RECORDS_SHORT,
    expected_digests,
    expected_offset_for_time,
)
from tests.clients.programs import Program, java_program
from tests.conftest import Target, unavailable
from tests.peers.processes import PeerUnavailableError

VERSIONS = ("0.11.0.3", "1.1.1", "2.8.2", "3.9.1", "4.4.0")
NEWEST = VERSIONS[-1]
# The full size in CI: the first release that speaks format v2, the one of our level, and the newest.
VERSIONS_FULL = [
    pytest.param(version, marks=pytest.mark.slow if version in ("1.1.1", "2.8.2") else ())
    for version in VERSIONS
]


@pytest.fixture(scope="module", params=VERSIONS)
def program(request: pytest.FixtureRequest) -> Program:
    return _program(request.param)


@pytest.fixture(scope="module")
def newest_program() -> Program:
    return _program(NEWEST)


def _program(version: str) -> Program:
    try:
        return java_program(version)
    except PeerUnavailableError as error:
        unavailable(error)


@pytest.mark.parametrize("program", VERSIONS_FULL, indirect=True)
def test_every_codec_comes_back_as_written(
    program: Program,
    target: Target,
    base_timestamp_ms: int,
    make_topic: Callable[..., str],
    read_digests: Callable[[str], tuple[str, ...]],
) -> None:
    topics = {codec: make_topic() for codec in program.codecs}
    jobs = [f"both,{topic},{codec},all,false" for codec, topic in topics.items()]
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_FULL, jobs)
    expected = expected_digests(RECORDS_FULL, base_timestamp_ms)
    for codec, topic in topics.items():
        assert answers.counts[topic] == RECORDS_FULL, codec
        assert tuple(answers.acked[topic].values()) == expected, codec
        assert tuple(answers.read[topic].values()) == expected, codec
        assert read_digests(topic) == expected, codec


def test_every_acks_without_idempotence(
    program: Program, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topics = {acks: make_topic() for acks in ("0", "1", "all")}
    in_flight = "max.in.flight.requests.per.connection=1"
    jobs = [f"both,{topic},none,{acks},false,{in_flight}" for acks, topic in topics.items()]
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_SHORT, jobs)
    expected = expected_digests(RECORDS_SHORT, base_timestamp_ms)
    for acks, topic in topics.items():
        assert tuple(answers.read[topic].values()) == expected, acks
    assert tuple(answers.acked[topics["1"]].values()) == expected
    assert tuple(answers.acked[topics["all"]].values()) == expected


def test_idempotent_producer(
    program: Program, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    in_flight = 1 if program.name == "Java 0.11.0.3" else 5
    job = f"both,{topic},lz4,all,true,max.in.flight.requests.per.connection={in_flight}"
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_FULL, [job])
    expected = expected_digests(RECORDS_FULL, base_timestamp_ms)
    assert tuple(answers.acked[topic].values()) == expected
    assert tuple(answers.read[topic].values()) == expected


def test_offsets_for_times(
    program: Program, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    jobs = [f"write,{topic},gzip,all,false", f"times,{topic},none,all,false"]
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_SHORT, jobs)
    assert len(answers.times) == 8 * PARTITIONS
    for answer in answers.times:
        expected = expected_offset_for_time(
            answer.partition, answer.timestamp_ms, base_timestamp_ms, RECORDS_SHORT
        )
        assert answer.offset == expected, answer


def test_record_above_the_limit_is_refused_by_name(
    program: Program, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    answers = program.run(target.bootstrap, base_timestamp_ms, 1, [f"large,{topic},none,all,false"])
    assert answers.errors[topic] == "RecordTooLargeException"


@pytest.mark.parametrize("idempotent", ["false", "true"])
def test_batch_above_the_limit_is_split_by_the_client(
    idempotent: str,
    newest_program: Program,
    target: Target,
    base_timestamp_ms: int,
    make_topic: Callable[..., str],
) -> None:
    topic = make_topic(max_message_bytes="20000")
    settings = "batch.size=100000,linger.ms=50,max.in.flight.requests.per.connection=1"
    job = f"both,{topic},none,all,{idempotent},{settings}"
    answers = newest_program.run(target.bootstrap, base_timestamp_ms, RECORDS_SHORT, [job])
    assert tuple(answers.read[topic].values()) == expected_digests(RECORDS_SHORT, base_timestamp_ms)

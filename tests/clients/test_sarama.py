"""sarama, three releases: the two old ones send -1 as a batch's max timestamp, which the broker corrects.

Skipped where Go is not installed, in CI too: no Debian package is new enough for it.
"""
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
from tests.clients.programs import Program, go_is_missing, sarama_program
from tests.conftest import Target

pytestmark = pytest.mark.skipif(go_is_missing(), reason="no go: sarama is tested only where Go is installed")

# (sarama release, broker release it is told to speak to: versions below 2.1 know no zstd)
RELEASES = (("1.40.0", "0.11.0.2"), ("1.45.0", "2.8.0"), ("1.61.1", "3.6.0"))
RELEASES_FULL = [
    pytest.param(release, marks=() if release[0] == "1.45.0" else pytest.mark.slow, id=release[0])
    for release in RELEASES
]


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: release[0])
def program(request: pytest.FixtureRequest) -> Program:
    return sarama_program(*request.param)


@pytest.mark.parametrize("program", RELEASES_FULL, indirect=True)
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


@pytest.mark.parametrize(("acks", "idempotent"), [("0", "false"), ("1", "false"), ("all", "true")])
def test_acks_and_idempotence(
    acks: str,
    idempotent: str,
    program: Program,
    target: Target,
    base_timestamp_ms: int,
    make_topic: Callable[..., str],
) -> None:
    topic = make_topic()
    job = f"both,{topic},snappy,{acks},{idempotent}"
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_SHORT, [job])
    assert tuple(answers.read[topic].values()) == expected_digests(RECORDS_SHORT, base_timestamp_ms)


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_offsets_for_times(
    codec: str, program: Program, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    jobs = [f"write,{topic},{codec},all,false", f"times,{topic},none,all,false"]
    answers = program.run(target.bootstrap, base_timestamp_ms, RECORDS_SHORT, jobs)
    assert len(answers.times) == 6 * PARTITIONS
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
    assert answers.errors[topic] == "ErrMessageSizeTooLarge"

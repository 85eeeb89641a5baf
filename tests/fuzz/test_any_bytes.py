"""One client that sends anything, beside one that must not notice (subtle behaviours 1-5 and 82)."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from storage.record.batch import patch_offset_and_epoch
from tests.fuzz import inputs
from tests.fuzz.conversation import Conversation
from tests.fuzz.oracle import judge
from tests.fuzz.site import REQUEST_BYTES_MAX, Site, running_site
from tests.fuzz.wire import call

CI = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(CI, max_examples=5000)
SEEDS = st.integers(0, 2**32)


def run(scenario: object, *arguments: object) -> None:
    trio.run(scenario, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


async def check_others(site: Site) -> None:
    """A client that minds its own business writes and reads."""
    peer = site.connect()
    request = request_class(ApiKey.PRODUCE)
    records = inputs.batch(random.Random(0))
    partition = request.PartitionProduceData(index=0, records=records)
    topic = request.TopicProduceData(name=inputs.TOPIC, partition_data=[partition])
    answer = await call(peer, ApiKey.PRODUCE, 9, request(acks=-1, timeout_ms=1000, topic_data=[topic]))
    (produced,) = answer.responses[0].partition_responses
    assert produced.error_code == 0
    wanted = request_class(ApiKey.FETCH)
    partition = wanted.FetchPartition(partition=0, fetch_offset=produced.base_offset, partition_max_bytes=10**7)
    topic = wanted.FetchTopic(topic=inputs.TOPIC, partitions=[partition])
    answer = await call(peer, ApiKey.FETCH, 12, wanted(max_wait_ms=100, min_bytes=1, topics=[topic]))
    (fetched,) = answer.responses[0].partitions
    expected = bytearray(records)
    patch_offset_and_epoch(memoryview(expected), 0, produced.base_offset, 1)
    assert bytes(fetched.records) == bytes(expected)
    peer.close()


async def hold_one(data: bytes, pieces: list[bytes], rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with running_site(Path(directory)) as site:
            verdicts = judge(data, REQUEST_BYTES_MAX)
            conversation = Conversation(site.connect(), pieces, verdicts, rng)
            await conversation.hold()
            conversation.check()
            assert len(site.lines.closings) == conversation.was_closed, site.lines.closings
            conversation.peer.close()
            await check_others(site)


def hold_seeded(seed: int) -> None:
    rng = random.Random(seed)
    data = inputs.stream(rng)
    run(hold_one, data, inputs.fragments(rng, data), rng)


def hold_raw(data: bytes, cuts: list[int]) -> None:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    run(hold_one, data, [piece for piece in pieces if piece], random.Random(len(data)))


@CI
@given(seed=SEEDS)
def test_requests_whole_bent_and_noise(seed: int) -> None:
    hold_seeded(seed)


@CI
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=8))
@example(data=b"\0\0\0\0", cuts=[])
@example(data=b"\xff\xff\xff\xff", cuts=[1, 2, 3])
def test_bytes_of_any_kind(data: bytes, cuts: list[int]) -> None:
    hold_raw(data, cuts)


@CI
@given(
    key=st.sampled_from(inputs.KNOWN_KEYS), version=st.integers(-1, 20), body=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 220), max_size=4),
)  # fmt: skip
def test_a_body_of_any_bytes_behind_a_header_that_is_right(
    key: int, version: int, body: bytes, cuts: list[int]
) -> None:
    content = key.to_bytes(2, "big") + version.to_bytes(2, "big", signed=True) + b"\0\0\0\7\xff\xff" + body
    hold_raw(len(content).to_bytes(4, "big") + content, cuts)


@pytest.mark.slow
@LONG
@given(seed=SEEDS)
def test_requests_whole_bent_and_noise_for_long(seed: int) -> None:
    hold_seeded(seed)


@pytest.mark.slow
@LONG
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_bytes_of_any_kind_for_long(data: bytes, cuts: list[int]) -> None:
    hold_raw(data, cuts)

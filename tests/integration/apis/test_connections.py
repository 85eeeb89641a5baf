"""Connections, frames and ApiVersions: behaviours 1-7 and 82."""

from __future__ import annotations

import struct
from contextlib import ExitStack

import pytest

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import encode_request
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import LIMITED_HOST, VARIANT, ApiBroker
from tests.integration.apis.records import batch, with_header
from tests.integration.apis.requests import (
    append,
    fetch,
    fetch_partition,
    fetch_request,
    list_offsets,
    new_producer_id,
    produce_request,
)
from tests.integration.apis.wire import Client, ConnectionClosed, versions
from tests.peers.processes import wait_until

ApiVersionsRequest = request_class(ApiKey.API_VERSIONS)
MetadataRequest = request_class(ApiKey.METADATA)
KNOWN_SOFTWARE = {"client_software_name": "ottla-tests", "client_software_version": "1.0"}
HEADER = struct.Struct(">ihhi")


def api_versions(client: Client, version: int) -> dict[int, tuple[int, int]]:
    software = KNOWN_SOFTWARE if version >= 3 else {}
    answer = client.call(ApiKey.API_VERSIONS, version, ApiVersionsRequest(**software))
    assert answer.error_code == 0
    return {entry.api_key: (entry.min_version, entry.max_version) for entry in answer.api_keys}


@pytest.mark.parametrize("version", versions(ApiKey.API_VERSIONS))
def test_01_api_versions_answers_with_header_v0_in_every_version(client: Client, version: int) -> None:
    software = KNOWN_SOFTWARE if version >= 3 else {}
    client.send(ApiKey.API_VERSIONS, version, ApiVersionsRequest(**software))
    frame = client.receive_frame()
    correlation_id, error = struct.unpack_from(">ih", frame)
    assert (correlation_id, error) == (1, 0)


@pytest.mark.parametrize("version", versions(ApiKey.API_VERSIONS))
def test_01_every_version_names_the_same_ranges(client: Client, version: int) -> None:
    ranges = api_versions(client, version)
    assert ranges == api_versions(client, 0)
    assert ranges[ApiKey.API_VERSIONS] == (0, 4)
    assert ranges[ApiKey.METADATA] == (0, 12)


def test_01_advertised_ranges_are_served(client: Client) -> None:
    for key, (lowest, highest) in api_versions(client, 3).items():
        assert API_SPECS[key].min_version <= lowest <= highest == API_SPECS[key].max_version


@pytest.mark.parametrize("version", [5, 99, 32767, -1])
def test_02_unsupported_api_versions_version_is_answered_in_v0(client: Client, version: int) -> None:
    body = struct.pack(">h", 11) + b"ottla-tests" + b"\0" + b"whatever"
    client.send_bytes(HEADER.pack(8 + len(body), ApiKey.API_VERSIONS, version, 7) + body)
    correlation_id, answer = client.receive(ApiKey.API_VERSIONS, 0)
    assert correlation_id == 7
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert [(entry.api_key, entry.min_version, entry.max_version) for entry in answer.api_keys] == [(18, 0, 4)]


def test_02_the_client_may_ask_again_on_the_same_connection(client: Client) -> None:
    client.send_bytes(HEADER.pack(11, ApiKey.API_VERSIONS, 9, 1) + b"\xff\xff\0")
    assert client.receive(ApiKey.API_VERSIONS, 0)[1].error_code == ErrorCode.UNSUPPORTED_VERSION
    assert api_versions(client, 4)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("name", "software_version"),
    [("", "1.0"), ("java", ""), ("-java", "1.0"), ("java", "1.0."), ("ja va", "1"), ("java", "1_0")],
)
def test_03_bad_software_names_are_an_invalid_request_and_the_connection_stays(
    client: Client, version: int, name: str, software_version: str
) -> None:
    message = ApiVersionsRequest(client_software_name=name, client_software_version=software_version)
    answer = client.call(ApiKey.API_VERSIONS, version, message)
    assert (answer.error_code, list(answer.api_keys)) == (ErrorCode.INVALID_REQUEST, [])
    assert api_versions(client, version)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(("name", "software_version"), [("a", "1"), ("apache-kafka.java", "3.9.1-rc1")])
def test_03_letters_digits_dots_and_dashes_are_accepted(
    client: Client, version: int, name: str, software_version: str
) -> None:
    message = ApiVersionsRequest(client_software_name=name, client_software_version=software_version)
    assert client.call(ApiKey.API_VERSIONS, version, message).error_code == 0


def raw(api_key: int, version: int, body: bytes = b"") -> bytes:
    """A request with header v1 and no client id."""
    return HEADER.pack(10 + len(body), api_key, version, 1) + struct.pack(">h", -1) + body


MALFORMED = {
    "unknown api key": raw(999, 0),
    "negative api key": raw(-1, 0),
    "api of a KRaft controller": raw(52, 0),
    "metadata version too high": raw(ApiKey.METADATA, 13),
    "metadata version negative": raw(ApiKey.METADATA, -1),
    "body too short": raw(ApiKey.METADATA, 1, b"\0\0"),
    "array longer than the frame": raw(ApiKey.METADATA, 1, struct.pack(">i", 1000)),
    "string longer than the frame": raw(ApiKey.METADATA, 1, struct.pack(">ih", 1, 500)),
    "client id longer than the frame": HEADER.pack(10, ApiKey.METADATA, 1, 1) + struct.pack(">h", 300),
    "frame too short for a header": struct.pack(">ih", 2, 3),
    "negative size": struct.pack(">i", -1),
    "size above socket.request.max.bytes": struct.pack(">i", 104857601),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_04_what_is_no_request_closes_the_connection_without_an_answer(
    broker: ApiBroker, client: Client, data: bytes
) -> None:
    client.send_bytes(data)
    assert client.is_closed()
    with broker.connect() as other:
        assert api_versions(other, 0)


def test_04_socket_request_max_bytes_is_the_limit(variant: ApiBroker) -> None:
    with variant.connect() as client:
        client.send_bytes(struct.pack(">i", 200_001))
        assert client.is_closed()
    with variant.connect() as client:
        client.send_bytes(struct.pack(">i", 200_000))
        assert client.is_silent(0.3)


def test_04_bytes_behind_the_body_are_ignored(client: Client) -> None:
    client.send_bytes(raw(ApiKey.METADATA, 1, struct.pack(">i", 0) + b"left over"))
    assert client.receive(ApiKey.METADATA, 1)[0] == 1


def test_04_requests_arrive_in_any_fragments(client: Client) -> None:
    frame = encode_request(ApiKey.METADATA, 12, 77, "ottla-tests", MetadataRequest(topics=[]))
    for index in range(len(frame)):
        client.send_bytes(frame[index : index + 1])
    assert client.receive(ApiKey.METADATA, 12)[0] == 77


def test_05_pipelined_requests_are_answered_in_their_order(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("ordered")
    sent = []
    for index in range(30):
        key, version, message = [
            (ApiKey.PRODUCE, 9, produce_request({topic.name: {0: batch(b"v")}}, acks=1)),
            (ApiKey.METADATA, 5, MetadataRequest(topics=[])),
            (ApiKey.FETCH, 12, fetch_request(12, [(topic, [fetch_partition(offset=index // 3)])])),
        ][index % 3]
        sent.append((client.send(key, version, message), key, version))
    for correlation_id, key, version in sent:
        answered, answer = client.receive(key, version)
        assert answered == correlation_id
        if key == ApiKey.FETCH:
            assert answer.responses[0].partitions[0].high_watermark == (correlation_id // 3)


def test_05_nothing_is_answered_before_the_long_poll_ahead_of_it(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("ordered")
    waiting = client.send(
        ApiKey.FETCH, 12, fetch_request(12, [(topic, [fetch_partition()])], max_wait_ms=600)
    )
    behind = client.send(ApiKey.METADATA, 5, MetadataRequest(topics=[]))
    assert client.is_silent(0.3)
    assert client.receive(ApiKey.FETCH, 12)[0] == waiting
    assert client.receive(ApiKey.METADATA, 5)[0] == behind


def test_05_pipelined_produces_are_appended_in_their_order(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("ordered")
    producer = (new_producer_id(client), 0)
    for sequence in range(20):
        records = batch(b"%d" % sequence, producer=(*producer, sequence))
        client.send(ApiKey.PRODUCE, 9, produce_request({topic.name: {0: records}}))
    offsets = []
    for _ in range(20):
        (response,) = client.receive(ApiKey.PRODUCE, 9)[1].responses
        assert response.partition_responses[0].error_code == 0
        offsets.append(response.partition_responses[0].base_offset)
    assert offsets == list(range(20))


def test_06_connections_beyond_max_connections_per_ip_are_closed_at_once(broker: ApiBroker) -> None:
    with broker.connect(source_host=LIMITED_HOST) as first:
        assert api_versions(first, 0)
        with broker.connect(source_host=LIMITED_HOST) as second:
            assert second.is_closed()
        assert api_versions(first, 0)


def test_06_idle_connections_are_closed(variant: ApiBroker) -> None:
    with variant.connect() as busy, variant.connect() as idle:
        assert api_versions(idle, 0)
        for _ in range(4):
            assert api_versions(busy, 0)
            assert busy.is_silent(0.9)
        assert idle.is_closed(8)
        assert api_versions(busy, 0)


def test_06_at_max_connections_new_ones_wait_but_those_of_the_inter_broker_listener(
    variant: ApiBroker,
) -> None:
    request = ApiVersionsRequest()
    with ExitStack() as stack:
        served: list[Client] = []
        while True:
            client = stack.enter_context(variant.connect(address=variant.external_address))
            client.send(ApiKey.API_VERSIONS, 0, request)
            if client.is_silent(0.4):
                break
            client.receive(ApiKey.API_VERSIONS, 0)
            served.append(client)
        assert 0 < len(served) <= int(VARIANT["max.connections"])
        inter_broker = stack.enter_context(variant.connect())
        assert api_versions(inter_broker, 0)
        wait_until(lambda: any(not each.is_silent(0.01) for each in served), "another one made room", 5)
        for each in served:
            each.close()
        assert client.receive(ApiKey.API_VERSIONS, 0)[1].error_code == 0


def test_07_acks_0_is_never_answered_on_success(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("unanswered")
    for version in versions(ApiKey.PRODUCE, 3):
        client.send(ApiKey.PRODUCE, version, produce_request({topic.name: {0: batch(b"v")}}, acks=0))
    correlation_id = client.send(ApiKey.METADATA, 5, MetadataRequest(topics=[]))
    assert client.receive(ApiKey.METADATA, 5)[0] == correlation_id
    assert list_offsets(client, topic, -1).offset == len(versions(ApiKey.PRODUCE, 3))


def test_07_acks_0_closes_the_connection_on_an_error(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("unanswered")
    damaged = with_header(batch(b"v"), crc=1)
    client.send(ApiKey.PRODUCE, 9, produce_request({topic.name: {0: damaged}}, acks=0))
    assert client.is_closed()


def test_07_acks_0_appends_what_it_can_before_it_closes(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("unanswered")
    client.send(ApiKey.PRODUCE, 9, produce_request({topic.name: {0: batch(b"v"), 7: batch(b"w")}}, acks=0))
    assert client.is_closed()
    with broker.connect() as other:
        assert list_offsets(other, topic, -1).offset == 1


def test_82_correlation_ids_of_any_value_come_back(client: Client) -> None:
    for correlation_id in (0, 1, -1, 2**31 - 1, -(2**31)):
        frame = encode_request(ApiKey.METADATA, 5, correlation_id, None, MetadataRequest(topics=[]))
        client.send_bytes(frame)
        assert client.receive(ApiKey.METADATA, 5)[0] == correlation_id


def test_82_a_closing_client_does_not_disturb_others(broker: ApiBroker) -> None:
    topic = broker.topic("half")
    with broker.connect() as other:
        append(other, topic, batch(b"v"))
        with broker.connect() as leaving:
            leaving.send(ApiKey.FETCH, 12, fetch_request(12, [(topic, [fetch_partition(offset=1)])], 2000))
        with broker.connect() as leaving:
            leaving.send_bytes(struct.pack(">ih", 1000, 3))
        append(other, topic, batch(b"w"))
        assert fetch(other, topic).high_watermark == 2


def test_82_null_and_empty_client_ids_are_accepted(broker: ApiBroker) -> None:
    for client_id in (None, ""):
        with broker.connect(client_id) as client:
            assert api_versions(client, 3)


def test_82_connection_closed_is_seen_while_an_answer_is_awaited(client: Client) -> None:
    client.send_bytes(raw(999, 0))
    with pytest.raises(ConnectionClosed):
        client.receive_frame()

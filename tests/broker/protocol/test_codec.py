"""Every message in every version: round trips, hostile bytes, truncation, limits on work."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.api_keys import ApiKey
from broker.protocol.codec import compile_ahead, decode, encode
from broker.protocol.compile_decode import decoder_source, minimum_size
from broker.protocol.compile_encode import encoder_source
from broker.protocol.errors import MalformedError, ProtocolError, UnsupportedVersionError
from broker.protocol.messages import message_class, request_class, response_class
from broker.protocol.schema import message_names
from tests.broker.protocol.values import random_message, versions_of

SEEDS = st.integers(0, 1 << 32)
EVERY_MESSAGE = pytest.mark.parametrize("name", message_names())


@EVERY_MESSAGE
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_random_values_survive_a_round_trip_in_every_version(name: str, seed: int) -> None:
    for version in versions_of(name):
        message = random_message(name, version, seed)
        data = encode(message, version)
        assert decode(message_class(name), data, version) == (message, len(data))
        assert decode(message_class(name), memoryview(data), version) == (message, len(data))


@EVERY_MESSAGE
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_message_is_found_inside_a_larger_buffer(name: str, seed: int, before: bytes, after: bytes) -> None:
    for version in versions_of(name):
        message = random_message(name, version, seed)
        data = encode(message, version)
        buffer = memoryview(before + data + after)
        end = len(before) + len(data)
        assert decode(message_class(name), buffer, version, len(before), end) == (message, end)
        # bytes that follow are nobody's business: Kafka tolerates padded requests
        assert decode(message_class(name), buffer, version, len(before)) == (message, end)


@EVERY_MESSAGE
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 1 << 16))
def test_a_message_cut_at_any_byte_is_malformed(name: str, seed: int) -> None:
    for version in versions_of(name):
        data = encode(random_message(name, version, seed), version)
        step = 1 + len(data) // 400  # every byte of a small message, samples of one with long strings
        for end in range(0, len(data), step):
            with pytest.raises(MalformedError):
                decode(message_class(name), data[:end], version)
            with pytest.raises(MalformedError):
                decode(message_class(name), memoryview(data), version, 0, end)


@EVERY_MESSAGE
@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_protocol_error(name: str, data: bytes) -> None:
    for version in versions_of(name):
        try:
            message, position = decode(message_class(name), data, version)
        except ProtocolError:
            continue
        assert 0 <= position <= len(data)
        again = encode(message, version)  # compared as bytes: a NaN is not equal to itself
        assert encode(decode(message_class(name), again, version)[0], version) == again


@EVERY_MESSAGE
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4))
def test_a_message_with_changed_bytes_parses_or_is_a_protocol_error(
    name: str, seed: int, changes: list[tuple[int, int]]
) -> None:
    versions = versions_of(name)
    version = versions[seed % len(versions)]
    data = bytearray(encode(random_message(name, version, seed), version))
    for position, value in changes:
        if data:
            data[position % len(data)] = value
    try:
        decode(message_class(name), data, version)
    except ProtocolError:
        return


@EVERY_MESSAGE
def test_defaults_survive_a_round_trip_in_every_version(name: str) -> None:
    cls = message_class(name)
    for version in versions_of(name):
        assert decode(cls, encode(cls(), version), version)[0] == cls()


@EVERY_MESSAGE
def test_versions_outside_the_range_are_refused(name: str) -> None:
    cls = message_class(name)
    versions = versions_of(name)
    for version in (versions.start - 1, versions.stop, 32767):
        with pytest.raises(UnsupportedVersionError, match=name):
            encode(cls(), version)
        with pytest.raises(UnsupportedVersionError, match=name):
            decode(cls, b"\0" * 100, version)


@EVERY_MESSAGE
def test_every_array_element_takes_bytes(name: str) -> None:
    """Else a count alone could ask for work that no bytes pay for."""
    cls = message_class(name)
    fields = [field for struct in (cls.STRUCT, *cls.MESSAGE.structs.values()) for field in struct.fields
              if field.is_array and field.is_struct]
    for version in versions_of(name):
        for field in fields:
            if field.versions.has(version):
                assert minimum_size(getattr(cls, field.type), version) > 0


def test_fields_from_a_memoryview_are_not_copied() -> None:
    cls = message_class("ProduceRequest")
    topic = cls.TopicProduceData(
        name="t", partition_data=[cls.PartitionProduceData(index=0, records=b"batch")])
    data = bytearray(encode(cls(topic_data=[topic]), 9))
    message, _ = decode(cls, memoryview(data), 9)
    records = message.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    assert records.obj is data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_byte_fields_may_be_any_bytes_like_object(kind: type) -> None:
    cls = message_class("SaslAuthenticateRequest")
    assert encode(cls(auth_bytes=kind(b"secret")), 2) == encode(cls(auth_bytes=b"secret"), 2)


def test_compiled_functions_are_straight_line() -> None:
    """Neighbours of fixed width are read and written by one call."""
    cls = message_class("MetadataResponse").MetadataResponsePartition
    assert "unpack_h_i_i_i_B(buffer, position)" in decoder_source(cls, 9)[0]
    assert "pack_h_i_i_i_i(" in encoder_source(cls, 8)[0]


def test_what_is_compiled_ahead_is_found_by_the_first_request() -> None:
    compile_ahead([(ApiKey.DESCRIBE_CLUSTER, 1)])
    assert 1 in request_class(ApiKey.DESCRIBE_CLUSTER).DECODERS
    assert 1 in response_class(ApiKey.DESCRIBE_CLUSTER).ENCODERS

"""Classes made from the table."""
from __future__ import annotations

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import Message, message_class, request_class, response_class
from broker.protocol.schema import message_names

Metadata = message_class("MetadataResponse")


def test_a_class_is_made_once() -> None:
    assert message_class("MetadataResponse") is Metadata
    assert issubclass(Metadata, Message)


def test_requests_and_responses_by_api_key() -> None:
    assert request_class(ApiKey.METADATA) is message_class("MetadataRequest")
    assert response_class(3) is Metadata
    with pytest.raises(KeyError):
        request_class(ApiKey.VOTE)


def test_an_unknown_message_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        message_class("VoteRequest")


@pytest.mark.parametrize("name", message_names())
def test_every_message_and_structure_can_be_made_from_nothing(name: str) -> None:
    cls = message_class(name)
    for made in (cls, *(getattr(cls, struct) for struct in cls.MESSAGE.structs)):
        assert made() == made()
        assert eval(repr(made()), {made.__name__: made, **_structures(cls)}) == made()


def _structures(cls: type[Message]) -> dict[str, object]:
    return {struct: getattr(cls, struct) for struct in cls.MESSAGE.structs}


def test_defaults_are_kafkas() -> None:
    message = Metadata()
    assert (message.throttle_time_ms, message.brokers, message.cluster_id) == (0, [], None)
    assert (message.controller_id, message.cluster_authorized_operations) == (-1, -(1 << 31))
    assert Metadata.MetadataResponsePartition().leader_epoch == -1
    assert Metadata.MetadataResponseTopic().topic_id == bytes(16)
    assert message.unknown_tagged_fields == ()


def test_mutable_defaults_are_not_shared() -> None:
    first, second = Metadata(), Metadata()
    first.brokers.append(1)
    assert second.brokers == []


def test_arguments_are_keywords_and_must_exist() -> None:
    assert Metadata(cluster_id="c").cluster_id == "c"
    with pytest.raises(TypeError):
        Metadata("c")
    with pytest.raises(TypeError):
        Metadata(no_such_field=1)


def test_attributes_that_do_not_exist_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Metadata().clusterid = "c"


def test_equality_is_by_value_and_class() -> None:
    assert Metadata(cluster_id="c") == Metadata(cluster_id="c")
    assert Metadata(cluster_id="c") != Metadata(cluster_id="d")
    assert Metadata() != Metadata(unknown_tagged_fields=((1, b""),))
    assert Metadata() != message_class("MetadataRequest")()
    with pytest.raises(TypeError):
        hash(Metadata())


def test_repr_names_the_fields() -> None:
    broker = Metadata.MetadataResponseBroker(node_id=1, host="h", port=9092)
    assert repr(broker) == "MetadataResponseBroker(node_id=1, host='h', port=9092, rack=None)"
    assert "unknown_tagged_fields=((5, b'x'),)" in repr(Metadata(unknown_tagged_fields=((5, b"x"),)))

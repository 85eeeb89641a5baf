"""Which topics the members of a consumer group have subscribed to, from their protocol metadata. PURE.

Read as version 0 whatever the member wrote, as Kafka does: every version begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.protocol.codec import decode
from broker.protocol.errors import ProtocolError
from broker.protocol.messages import message_class

CONSUMER_PROTOCOL_TYPE = "consumer"
_VERSION_BYTES = 2


def subscribed_topics(metadata: Iterable[bytes]) -> frozenset[str] | None:
    """None if any of them cannot be read: then nothing is known."""
    subscription = message_class("ConsumerProtocolSubscription")
    topics: set[str] = set()
    for one in metadata:
        if len(one) < _VERSION_BYTES:
            return None
        try:
            topics.update(decode(subscription, one, 0, _VERSION_BYTES)[0].topics)
        except ProtocolError:
            return None
    return frozenset(topics)

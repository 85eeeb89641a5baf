"""Error codes. The whole table is compared with Kafka's in integration/protocol_java."""
from __future__ import annotations

from broker.protocol.errors import (
    ErrorCode,
    FrameTooLargeError,
    MalformedError,
    ProtocolError,
    UnsupportedVersionError,
    invalidates_metadata,
    is_retriable,
)


def test_codes_run_from_minus_one_without_a_gap() -> None:
    assert sorted(int(code) for code in ErrorCode) == list(range(-1, 128))


def test_what_a_client_may_retry() -> None:
    assert is_retriable(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert is_retriable(6)
    assert not is_retriable(ErrorCode.MESSAGE_TOO_LARGE)
    assert not is_retriable(ErrorCode.NONE)


def test_stale_metadata_is_always_worth_a_retry() -> None:
    assert invalidates_metadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    assert not invalidates_metadata(ErrorCode.REQUEST_TIMED_OUT)
    assert all(is_retriable(code) for code in ErrorCode if invalidates_metadata(code))


def test_every_exception_is_the_peers_fault() -> None:
    for kind in (MalformedError, FrameTooLargeError, UnsupportedVersionError):
        assert issubclass(kind, ProtocolError)

"""DeleteTopics (key 20).

| version | what it adds |
|---|---|
| 1 | throttle time |
| 3 | TOPIC_DELETION_DISABLED instead of INVALID_REQUEST when delete.topic.enable is false |
| 4 | flexible |
| 5 | error messages; THROTTLING_QUOTA_EXCEEDED (the front end's business) |
| 6 | topics by id |

A topic is marked by a node; the deletion itself follows (`procedures.topic_deletion`). A topic that is
marked already is waited for, no error. Kafka answers as soon as its metadata cache has dropped the topic;
here the answer also waits for the live brokers to have deleted their replicas, so that the name is free
again when the client hears of it; a replica on a dead broker is not waited for, as in Kafka.

PURE. Runs in: controller.
"""
from __future__ import annotations

from typing import Any

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.fault import ApiFault
from controller.apis.topic_rules import check_topic_name
from controller.apis.waiting import WaitingAnswer
from controller.metadata_store.errors import MultiError, NodeExistsError, StoreError
from controller.metadata_store.operations import Create, Exists, ExistsResult
from controller.procedures.runtime import Runtime

DISABLED_CODE_FROM_VERSION = 3
NO_TOPIC_ID = bytes(16)


async def delete_topics(runtime: Runtime, request: Any, version: int) -> WaitingAnswer:
    if not runtime.deletion_enabled:
        code = ErrorCode.TOPIC_DELETION_DISABLED
        if version < DISABLED_CODE_FROM_VERSION:
            code = ErrorCode.INVALID_REQUEST
        return _at_once(refuse_delete_topics(request, code))
    entries = _entries(request)
    if any(name is not None and topic_id != NO_TOPIC_ID for name, topic_id in entries):
        return _at_once(refuse_delete_topics(
            request, ErrorCode.INVALID_REQUEST, "A topic is named or given by id, not both."))
    results = [_resolve(runtime, name, topic_id) for name, topic_id in entries]
    names = list(dict.fromkeys(result.name for result in results if result.error_code == ErrorCode.NONE))
    missing = await _mark(runtime, names)
    for result in results:
        if result.name in missing:
            fault = missing[result.name]
            result.error_code, result.error_message = fault.code, fault.message

    def on_time_out(name: str) -> None:
        for result in results:
            if result.name == name:
                result.error_code = ErrorCode.REQUEST_TIMED_OUT

    response = message_class("DeleteTopicsResponse")(responses=results)
    return WaitingAnswer(response, timeout_ms=request.timeout_ms, on_time_out=on_time_out,
                         topics=[name for name in names if name not in missing])


def refuse_delete_topics(request: Any, code: ErrorCode, message: str | None = None) -> Any:
    """The same error for every topic."""
    results = [_result(name, topic_id) for name, topic_id in _entries(request)]
    for result in results:
        result.error_code, result.error_message = code, message
    return message_class("DeleteTopicsResponse")(responses=results)


def _at_once(response: Any) -> WaitingAnswer:
    return WaitingAnswer(response, timeout_ms=0, on_time_out=lambda name: None)


def _entries(request: Any) -> list[tuple[str | None, bytes]]:
    """(name, topic id) from either form of the request."""
    return [*((name, NO_TOPIC_ID) for name in request.topic_names),
            *((topic.name, bytes(topic.topic_id)) for topic in request.topics)]


def _result(name: str | None, topic_id: bytes) -> Any:
    return message_class("DeleteTopicsResponse").DeletableTopicResult(name=name, topic_id=topic_id)


def _resolve(runtime: Runtime, name: str | None, topic_id: bytes) -> Any:
    if topic_id != NO_TOPIC_ID:
        name = runtime.state.topic_names.get(topic_id)
    result = _result(name, topic_id)
    if name is None:
        result.error_code = ErrorCode.UNKNOWN_TOPIC_ID
    return result


async def _mark(runtime: Runtime, names: list[str]) -> dict[str, ApiFault]:
    """Make the deletion nodes of the topics that exist; faults of the others."""
    faults: dict[str, ApiFault] = {}
    for name in names:
        try:
            check_topic_name(name)
        except ApiFault:
            faults[name] = ApiFault(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    askable = [name for name in names if name not in faults]
    found = await runtime.read([Exists(znodes.topic_path(name)) for name in askable])
    present = []
    for name, outcome in zip(askable, found, strict=True):
        if isinstance(outcome, ExistsResult) and outcome.stat is not None:
            present.append(name)
        else:
            faults[name] = ApiFault(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    written = await runtime.write([(Create(znodes.delete_topic_path(name)),) for name in present])
    for name, outcome in zip(present, written, strict=True):
        cause = outcome.cause if isinstance(outcome, MultiError) else outcome
        if isinstance(cause, StoreError) and not isinstance(cause, NodeExistsError):
            faults[name] = ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR,
                                    f"The deletion could not be stored: {cause}.")
    return faults

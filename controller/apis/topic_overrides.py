"""DescribeConfigs (key 32) on the front end's stream: read these topics' overrides and send them.

Asked by this node's own front end before it opens logs of topics that another node's controller speaks of
(`broker.client.topic_overrides`). The answer says whether the store knows the topic; the overrides themselves go
out as AlterConfigs on the front end's other stream, in one order with later changes. Topics without overrides
are sent as such.

The store's server that this session talks to may be behind the one of the controller. A topic's overrides are
written before its node, and the node is read first here, so a topic that is there has all its overrides; one
that is not, or that has another id than the front end was told (it was deleted and made again), is
UNKNOWN_TOPIC_OR_PARTITION, and asked for again. The id stands in the place of the configuration keys.

PURE. Runs in: controller, whoever leads.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from broker.protocol.primitives import uuid_to_text
from controller import znodes
from controller.decision import learn
from controller.metadata_store.operations import GetData, GetDataResult, Outcome
from controller.procedures.runtime import Runtime


async def send_topic_overrides(runtime: Runtime, request: Any) -> Any:
    topics = [resource.resource_name for resource in request.resources]
    paths = [znodes.config_path(znodes.TOPIC_CONFIGS, topic) for topic in topics]
    outcomes = await runtime.read([
        *(GetData(znodes.topic_path(topic)) for topic in topics), *(GetData(path) for path in paths)])
    decision = learn([])
    found: dict[str, Mapping[str, str]] = {}
    results: list[Any] = []
    for resource, path, topic, node in zip(request.resources, paths, outcomes[:len(topics)],
                                           outcomes[len(topics):], strict=True):
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if _is_there(resource, topic, decision.problems):
            code = ErrorCode.NONE
            found[resource.resource_name] = _overrides(path, node, decision.problems)
        results.append(_result(resource, code, None))
    await runtime.apply(decision)
    runtime.configure_topics(found)
    return message_class("DescribeConfigsResponse")(results=results)


def _is_there(resource: Any, topic: Outcome, problems: list[str]) -> bool:
    """The topic with the id that was asked for, if one was."""
    if not isinstance(topic, GetDataResult):
        return False
    if not resource.configuration_keys:
        return True
    try:
        found = znodes.decode_topic(resource.resource_name, topic.data).topic_id
    except znodes.ZnodeFormatError as error:
        problems.append(str(error))
        return False
    return found is not None and uuid_to_text(found) == resource.configuration_keys[0]


def _overrides(path: str, node: Outcome, problems: list[str]) -> Mapping[str, str]:
    try:
        return znodes.decode_config(path, node.data) if isinstance(node, GetDataResult) else {}
    except znodes.ZnodeFormatError as error:
        problems.append(f"overrides are left out: {error}")
        return {}


def refuse_topic_overrides(request: Any, code: ErrorCode, message: str | None) -> Any:
    return message_class("DescribeConfigsResponse")(
        results=[_result(resource, code, message) for resource in request.resources])


def _result(resource: Any, code: ErrorCode, message: str | None) -> Any:
    return message_class("DescribeConfigsResponse").DescribeConfigsResult(
        error_code=code, error_message=message, resource_type=resource.resource_type,
        resource_name=resource.resource_name)

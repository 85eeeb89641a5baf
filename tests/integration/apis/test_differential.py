"""One script of requests to both brokers; their answers are the same, field by field, but for the known rows."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import ApiBroker, Topic
from tests.integration.apis.compare import Mask, differences, plain
from tests.integration.apis.conftest import Start
from tests.integration.apis.known_differences import CLOSED, KNOWN, describe, reason_for
from tests.integration.apis.requests import new_producer_id
from tests.integration.apis.script import Step, World, steps
from tests.integration.apis.wire import Client, ConnectionClosed

SCRIPT = steps()
SILENCE = "<silence>"
NO_ANSWER = "<no answer>"
ANSWER_SECONDS_MAX = 12
SILENT_PROBE_VERSION = 0

pytestmark = pytest.mark.kafka


class Run:
    """The script against one broker. outcomes: step name -> plain answer, CLOSED or SILENCE."""

    def __init__(self, broker: ApiBroker) -> None:
        self._broker = broker
        self._world = World(self._find_topic)
        self._client = broker.connect()
        self._topic_ids: dict[bytes, str] = {}
        answers = {each.name: (each.api_key, self._outcome(each)) for each in SCRIPT}
        self._client.close()
        directories = {str(path): f"directory {index}" for index, path in enumerate(broker.node.log_dirs)}
        mask = Mask(self._topic_ids, directories)
        self.outcomes = {name: mask(key, answer) for name, (key, answer) in answers.items()}

    def _find_topic(self, name: str) -> Topic:
        (found,) = self._broker.metadata(name).topics
        return Topic(name, bytes(found.topic_id))

    def _outcome(self, each: Step) -> Any:
        request = each.build(self._world)
        try:
            answer = self._exchange(each, request)
        except (ConnectionClosed, BrokenPipeError, ConnectionResetError):
            self._reconnect()
            return CLOSED
        except TimeoutError:
            self._reconnect()
            return NO_ANSWER
        self._learn(answer)
        return answer

    def _reconnect(self) -> None:
        self._client.close()
        self._client = self._broker.connect()

    def _exchange(self, each: Step, request: Any) -> Any:
        """For a request that gets no answer: silence up to the answer of the next one."""
        self._client.send(each.api_key, each.version, request)
        if not each.silent:
            return self._client.receive(each.api_key, each.version, ANSWER_SECONDS_MAX)[1]
        probe(self._client)
        return SILENCE

    def _learn(self, answer: Any) -> None:
        """Topic ids that the answer tells, and the session that it made."""
        for topic in getattr(answer, "topics", ()):
            topic_id, name = getattr(topic, "topic_id", None), getattr(topic, "name", None)
            if topic_id and name:
                self._topic_ids[bytes(topic_id)] = name
        if getattr(answer, "session_id", 0):
            self._world.session_id = answer.session_id


def probe(client: Client) -> None:
    """Any request that is answered at once."""
    client.call(ApiKey.API_VERSIONS, SILENT_PROBE_VERSION, request_class(ApiKey.API_VERSIONS)())


@pytest.fixture(scope="session")
def both_outcomes(start_broker: Start) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Ottla's, Kafka's)"""
    brokers = [start_broker(kind, "base") for kind in ("ottla", "kafka")]
    for broker in brokers:
        with broker.connect() as client:
            new_producer_id(client)
    ours, theirs = (Run(broker).outcomes for broker in brokers)
    return ours, theirs


GROUPS = list(dict.fromkeys((each.api_key, each.version) for each in SCRIPT))


@pytest.mark.parametrize(
    ("api_key", "version"), GROUPS, ids=[f"{api_key.name}-v{version}" for api_key, version in GROUPS]
)
def test_both_brokers_answer_alike(
    api_key: ApiKey, version: int, both_outcomes: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    ours, theirs = both_outcomes
    unexplained = [
        describe(each.name, *difference)
        for each in SCRIPT
        if (each.api_key, each.version) == (api_key, version)
        for difference in differences(ours[each.name], theirs[each.name])
        if reason_for(each.name, difference[0]) is None
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_known_difference_is_still_there(both_outcomes: tuple[dict[str, Any], dict[str, Any]]) -> None:
    ours, theirs = both_outcomes
    seen = {
        reason_for(name, path) for name in ours for path, _, _ in differences(ours[name], theirs[name])
    }
    assert [row for row in KNOWN if row not in seen] == []


def test_differences_are_found_at_any_depth() -> None:
    ours = plain({"topics": [{"name": "a", "codes": [1, 2]}, {"name": "b", "codes": memoryview(b"x")}]})
    theirs = plain({"topics": [{"name": "a", "codes": (1, 3)}, {"name": "c", "codes": b"x"}]})
    assert [path for path, _, _ in differences(ours, theirs)] == [
        ".topics[a].codes[3]", ".topics[a].codes[2]", ".topics[c]", ".topics[b]"]  # fmt: skip

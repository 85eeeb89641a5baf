"""Incremental fetch sessions: behaviour 47. The versions between those here are compared by the script."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker, Topic
from tests.integration.apis.records import batch, of_size, values_of
from tests.integration.apis.requests import append, fetch_partition, fetch_request, fetched
from tests.integration.apis.test_delete_topics import delete, recreated
from tests.integration.apis.wire import Client, versions

SESSION_VERSIONS = versions(ApiKey.FETCH, 7)
NO_SESSION, INITIAL, FINAL = 0, 0, -1
FOREVER_MS = 20_000
Wanted = tuple[Topic, list[Any]]


class Session:
    """A client's side of one session."""

    def __init__(self, client: Client, version: int) -> None:
        self.client = client
        self.version = version
        self.id = NO_SESSION
        self.epoch = INITIAL

    def start(self, *wanted: Wanted, **options: Any) -> Any:
        """The full fetch that makes the session."""
        answer = self.ask(self.id, INITIAL, *wanted, **options)
        assert (answer.error_code, answer.session_id != NO_SESSION) == (0, True)
        self.id, self.epoch = answer.session_id, 1
        return answer

    def go_on(self, *changed: Wanted, **options: Any) -> Any:
        """The next incremental fetch."""
        answer = self.ask(self.id, self.epoch, *changed, **options)
        assert (answer.error_code, answer.session_id) == (0, self.id)
        self.epoch += 1
        return answer

    def ask(self, session_id: int, epoch: int, *wanted: Wanted, **options: Any) -> Any:
        request = fetch_request(self.version, wanted, session=(session_id, epoch), **options)
        return self.client.call(ApiKey.FETCH, self.version, request)

    def key(self, topic: Topic) -> str | bytes:
        return topic.id if self.version >= 13 else topic.name

    def close(self) -> None:
        self.ask(self.id, FINAL)


@pytest.fixture(params=[7, 11, 12, 13, 17])
def session(client: Client, request: pytest.FixtureRequest) -> Iterator[Session]:
    made = Session(client, request.param)
    yield made
    made.close()


@pytest.fixture
def latest(client: Client) -> Iterator[Session]:
    made = Session(client, SESSION_VERSIONS[-1])
    yield made
    made.close()


def contents(answer: Any) -> list[tuple[int, list[bytes | None]]]:
    """(partition, values) of an answer about one topic."""
    return [
        (result.partition_index, values_of(bytes(result.records or b"")))
        for response in answer.responses
        for result in response.partitions
    ]


def test_47_a_full_fetch_makes_a_session_and_answers_everything(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=3)
    append(session.client, topic, batch(b"v"), partition=1)
    answer = session.start((topic, [fetch_partition(number) for number in range(3)]))
    assert contents(answer) == [(0, []), (1, [b"v"]), (2, [])]


def test_47_incremental_fetches_answer_what_is_new(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=3)
    session.start((topic, [fetch_partition(number) for number in range(3)]))
    assert contents(session.go_on()) == []
    append(session.client, topic, batch(b"a"), partition=2)
    assert contents(session.go_on()) == [(2, [b"a"])]
    assert contents(session.go_on()) == [(2, [b"a"])]
    assert contents(session.go_on((topic, [fetch_partition(2, 1)]))) == []
    append(session.client, topic, batch(b"b"), partition=2)
    append(session.client, topic, batch(b"c"), partition=0)
    assert sorted(contents(session.go_on())) == [(0, [b"c"]), (2, [b"b"])]


def test_47_partitions_can_be_added_and_forgotten(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=3)
    session.start((topic, [fetch_partition(0)]))
    assert contents(session.go_on((topic, [fetch_partition(1)]))) == [(1, [])]
    for number in range(3):
        append(session.client, topic, batch(b"v"), partition=number)
    assert sorted(contents(session.go_on())) == [(0, [b"v"]), (1, [b"v"])]
    assert contents(session.go_on(forgotten=[(topic, [0])])) == [(1, [b"v"])]
    assert contents(session.go_on(forgotten=[(topic, [7])])) == [(1, [b"v"])]


def test_47_a_session_without_partitions_ends(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=2)
    session.start((topic, [fetch_partition(0), fetch_partition(1)]))
    answer = session.ask(session.id, 1, forgotten=[(topic, [0, 1])])
    assert (answer.error_code, answer.session_id, contents(answer)) == (0, NO_SESSION, [])
    assert session.ask(session.id, 2).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_47_forgetting_and_wanting_at_once_forgets(broker: ApiBroker, latest: Session) -> None:
    topic = broker.topic("session", partitions=2)
    latest.start((topic, [fetch_partition(0), fetch_partition(1)]))
    append(latest.client, topic, batch(b"v"))
    assert contents(latest.go_on((topic, [fetch_partition(0)]), forgotten=[(topic, [0])])) == []


def test_47_epochs_are_exact(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session")
    session.start((topic, [fetch_partition()]))
    for epoch in (2, 3, 2**31 - 1):
        answer = session.ask(session.id, epoch)
        assert (answer.error_code, answer.session_id) == (ErrorCode.INVALID_FETCH_SESSION_EPOCH, NO_SESSION)
        assert contents(answer) == []
    session.go_on()
    assert session.ask(session.id, 1).error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    session.go_on()


def test_47_unknown_sessions_are_not_found(broker: ApiBroker, session: Session) -> None:
    for session_id, epoch in ((12345, 1), (12345, 2), (0, 1), (-1, 1)):
        answer = session.ask(session_id, epoch)
        assert (answer.error_code, answer.session_id) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, NO_SESSION)


def test_47_the_final_epoch_closes_the_session_and_answers_fully(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=2)
    session.start((topic, [fetch_partition(0)]))
    answer = session.ask(session.id, FINAL, (topic, [fetch_partition(0), fetch_partition(1)]))
    assert (answer.error_code, answer.session_id, contents(answer)) == (0, NO_SESSION, [(0, []), (1, [])])
    assert session.ask(session.id, 1).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_47_without_a_session_the_final_epoch_makes_none(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session")
    answer = session.ask(NO_SESSION, FINAL, (topic, [fetch_partition()]))
    assert (answer.error_code, answer.session_id, contents(answer)) == (0, NO_SESSION, [(0, [])])


def test_47_a_full_fetch_replaces_the_session(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session")
    session.start((topic, [fetch_partition()]))
    old = session.id
    session.start((topic, [fetch_partition()]))
    assert session.id != old
    assert session.ask(old, 1).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    session.go_on()


def test_47_a_full_fetch_of_nothing_makes_a_session_too(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session")
    assert contents(session.start(max_wait_ms=FOREVER_MS)) == []
    assert contents(session.go_on((topic, [fetch_partition()]))) == [(0, [])]


@pytest.mark.parametrize(("first", "then"), [(12, 13), (13, 12), (17, 7)])
def test_47_names_and_ids_do_not_mix_in_one_session(
    broker: ApiBroker, client: Client, first: int, then: int
) -> None:
    topic = broker.topic("session")
    session = Session(client, first)
    session.start((topic, [fetch_partition()]))
    session.version = then
    answer = session.ask(session.id, 1)
    assert (answer.error_code, answer.session_id) == (ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, NO_SESSION)
    session.version = first
    session.go_on()
    session.close()


def test_47_sessions_outlive_their_connection(broker: ApiBroker, latest: Session) -> None:
    topic = broker.topic("session")
    latest.start((topic, [fetch_partition()]))
    append(latest.client, topic, batch(b"v"))
    with broker.connect() as other:
        latest.client, old = other, latest.client
        assert contents(latest.go_on()) == [(0, [b"v"])]
        latest.client = old


def test_47_an_incremental_fetch_waits_for_data(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=2)
    session.start((topic, [fetch_partition(0), fetch_partition(1)]))
    started = time.monotonic()
    assert contents(session.go_on(max_wait_ms=100)) == []
    assert time.monotonic() - started > 0.09

    def later() -> None:
        time.sleep(0.05)
        with broker.connect() as other:
            append(other, topic, batch(b"v"), partition=1)

    thread = threading.Thread(target=later)
    thread.start()
    assert contents(session.go_on(max_wait_ms=FOREVER_MS)) == [(1, [b"v"])]
    thread.join()


def test_47_partitions_with_errors_are_answered_every_time(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=2)
    answer = session.start((topic, [fetch_partition(0, offset=5), fetch_partition(1)]))
    for _ in range(3):
        errors = [
            (result.partition_index, result.error_code)
            for response in answer.responses for result in response.partitions if result.error_code
        ]  # fmt: skip
        assert errors == [(0, ErrorCode.OFFSET_OUT_OF_RANGE)]
        answer = session.go_on(max_wait_ms=FOREVER_MS)
        assert len(fetched(answer)) == 1


def test_47_a_partition_is_answered_again_once_its_error_is_gone(broker: ApiBroker, session: Session) -> None:
    topic = broker.topic("session", partitions=2)
    session.start((topic, [fetch_partition(0, offset=5), fetch_partition(1)]))
    answer = session.go_on((topic, [fetch_partition(0)]))
    assert fetched(answer) == [(session.key(topic), 0)]
    assert answer.responses[0].partitions[0].error_code == 0
    assert fetched(session.go_on()) == []


def test_47_partitions_that_gave_data_go_to_the_end_of_the_order(broker: ApiBroker, latest: Session) -> None:
    topic = broker.topic("session", partitions=3)
    for number in range(3):
        append(latest.client, topic, of_size(400), of_size(400), partition=number)
    limits = {"max_bytes": 100}
    first = latest.start((topic, [fetch_partition(number) for number in range(3)]), **limits)
    assert sizes(first) == {0: True, 1: False, 2: False}
    order = [served(latest.go_on(**limits)) for _ in range(6)]
    assert order == [0, 1, 2, 0, 1, 2]


def sizes(answer: Any) -> dict[int, bool]:
    """Partition -> whether it came with data."""
    return {
        result.partition_index: bool(result.records)
        for response in answer.responses
        for result in response.partitions
    }


def served(answer: Any) -> int:
    """The only partition with data."""
    (partition,) = [number for number, has_data in sizes(answer).items() if has_data]
    return partition


def test_47_a_topic_that_is_made_anew_under_the_session_is_another_one(
    broker: ApiBroker, client: Client
) -> None:
    topic = broker.topic("session")
    by_name, by_id = Session(client, 12), Session(client, 17)
    append(client, topic, batch(b"old"))
    for session in (by_name, by_id):
        session.start((topic, [fetch_partition()]))
    delete(client, topic.name)
    again = recreated(broker, topic.name)
    append(client, again, batch(b"new"))
    assert contents(by_name.go_on()) == [(0, [b"new"])]
    answer = by_id.go_on()
    assert answer.responses[0].partitions[0].error_code == ErrorCode.INCONSISTENT_TOPIC_ID
    by_name.close()
    by_id.close()


def test_47_without_room_for_sessions_clients_stay_without(variant: ApiBroker) -> None:
    topic = variant.topic("session")
    with variant.connect() as client:
        for version in SESSION_VERSIONS:
            request = fetch_request(version, [(topic, [fetch_partition()])], session=(NO_SESSION, INITIAL))
            answer = client.call(ApiKey.FETCH, version, request)
            assert (answer.error_code, answer.session_id, contents(answer)) == (0, NO_SESSION, [(0, [])])

"""The judge of the rounds: the transaction log is read as its server wrote it, and faults in it are found."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError

from controller import znodes
from tests.conftest import unavailable
from tests.peers.processes import PeerUnavailableError
from tests.peers.zookeeper import KAFKAS, ZooKeeperServer, classpath
from tests.zookeeper_rounds import evidence
from tests.zookeeper_rounds.evidence import Election, Loss
from tests.zookeeper_rounds.transaction_log import Change, Transaction, read_log, session_password

FIRST, SECOND, OPERATOR = 0xA1, 0xA2, 0xA3
STATE = znodes.partition_state_path("t", 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    try:
        running = ZooKeeperServer(classpath(KAFKAS), tmp_path_factory.mktemp("zookeeper"))
    except PeerUnavailableError as error:
        unavailable(error)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def client(server: ZooKeeperServer) -> Iterator[KazooClient]:
    started = KazooClient(server.connect_string)
    started.start()
    yield started
    started.stop()
    started.close()


def test_log_holds_every_change_with_its_session(server: ZooKeeperServer, client: KazooClient) -> None:
    session = client.client_id[0]
    client.create("/a", b"one")
    client.create("/a/e", b"", ephemeral=True)
    client.set("/a", b"two")
    multi = client.transaction()
    multi.check("/a", 1)
    multi.create("/a/b", b"three")
    multi.delete("/a/e")
    multi.commit()
    refused = client.transaction()
    refused.create("/a/c")
    refused.check("/a", 7)
    refused.commit()
    transactions = [found for found in read_log(server.data_dir) if found.session == session]
    assert transactions[0].opens
    assert [found.changes for found in transactions[1:]] == [
        (Change("create", "/a", b"one"),),
        (Change("create", "/a/e", b""),),
        (Change("set", "/a", b"two"),),
        (Change("check", "/a", None), Change("create", "/a/b", b"three"), Change("delete", "/a/e", None)),
        (Change("refused", "", None), Change("refused", "", None)),
    ]
    assert sorted(found.zxid for found in transactions) == [found.zxid for found in transactions]


def test_log_outlives_a_kill_of_its_server(server: ZooKeeperServer, client: KazooClient) -> None:
    client.create("/before")
    server.kill()
    server.start()
    client.retry(client.create, "/after")
    paths = [change.path for found in read_log(server.data_dir) for change in found.changes]
    assert paths.index("/before") < paths.index("/after")


def test_any_session_can_be_ended_from_outside(server: ZooKeeperServer, client: KazooClient) -> None:
    """Its password follows from its id."""
    session, password = client.client_id
    assert session_password(session) == password
    client.create("/ended", ephemeral=True)
    other = KazooClient(server.connect_string, client_id=(session, session_password(session)))
    other.start()
    other.stop()
    other.close()
    with pytest.raises(NoNodeError):
        client.retry(client.get, "/ended")
    assert any(found.ends for found in read_log(server.data_dir) if found.session == session)


def test_refused_write_is_an_error_for_its_client(client: KazooClient) -> None:
    client.create("/versioned")
    with pytest.raises(BadVersionError):
        client.set("/versioned", b"", version=5)


# Judging.


def elected(zxid: int, session: int, broker_id: int, epoch: int) -> Transaction:
    return Transaction(zxid, zxid * 1000, session, (
        Change("create", znodes.CONTROLLER, znodes.encode_controller(broker_id, 0)),
        Change("set", znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(epoch))))


def wrote(zxid: int, session: int) -> Transaction:
    return Transaction(zxid, zxid * 1000, session, (Change("check", znodes.CONTROLLER_EPOCH, None),
                                                   Change("set", STATE, b"{}")))


def test_write_of_the_elected_session_is_fine() -> None:
    assert evidence.violations([elected(1, FIRST, 1, 1), wrote(2, FIRST), elected(3, SECOND, 2, 2),
                                wrote(4, SECOND)]) == []


def test_write_of_a_former_leader_is_found() -> None:
    (sentence,) = evidence.violations([elected(1, FIRST, 1, 1), elected(2, SECOND, 2, 2), wrote(3, FIRST)])
    assert STATE in sentence


def test_registration_is_no_controllers_write_and_the_tests_may_write_anything() -> None:
    registered = Transaction(3, 3000, FIRST, (Change("create", znodes.broker_path(1), b"{}"),))
    assert evidence.violations([elected(1, FIRST, 1, 1), elected(2, SECOND, 2, 2), registered,
                                wrote(4, OPERATOR)]) == []


def test_epoch_that_does_not_follow_is_found() -> None:
    assert len(evidence.violations([elected(1, FIRST, 1, 1), elected(2, SECOND, 2, 3)])) == 1
    assert len(evidence.violations([elected(1, FIRST, 1, 1), elected(2, SECOND, 2, 1)])) == 1


def test_successor_that_comes_late_or_never_is_found() -> None:
    transactions = [elected(1, FIRST, 1, 1), elected(6, SECOND, 2, 2)]
    assert list(evidence.elections(transactions))[1] == Election(6000, SECOND, 2, 2)
    assert evidence.late_successors(transactions, [Loss(2000, 1, 6000, "stop")]) == []
    assert len(evidence.late_successors(transactions, [Loss(2000, 1, 5999, "stop")])) == 1
    assert len(evidence.late_successors(transactions, [Loss(7000, 2, 11_000, "stop")])) == 1

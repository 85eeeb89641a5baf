"""Registration: the broker epoch, whose node it is, and who stands in the way."""
from __future__ import annotations

import pytest

from controller import identity, znodes
from controller.cluster import Endpoint
from controller.registration import RegistrationRefusedError, register_anew, resume
from tests.controller.memory_store import MemoryServer, MemoryStore, run

ENDPOINTS = (Endpoint("PLAINTEXT", "PLAINTEXT", "h", 9092),)
DATA = znodes.encode_broker(ENDPOINTS, None, 0, 5)


def prepared() -> tuple[MemoryServer, MemoryStore]:
    server = MemoryServer()
    store = server.session()
    run(identity.ensure_paths(store))
    return server, store


def register(store: MemoryStore, broker_id: int = 1, port: int = 9092) -> int:
    endpoints = (Endpoint("PLAINTEXT", "PLAINTEXT", "h", port),)
    return run(register_anew(store, broker_id, endpoints, znodes.encode_broker(endpoints, None, 0, 5)))


def test_epoch_is_the_transaction_that_made_the_node_and_set_it() -> None:
    server, store = prepared()
    epoch = register(store)
    node = server.tree.node("/brokers/ids/1")
    assert node is not None
    assert (node.czxid, node.mzxid, node.version, node.ephemeral_owner) == (epoch, epoch, 1, store.session.id)
    assert node.data == DATA


def test_registering_anew_raises_the_epoch() -> None:
    _, store = prepared()
    assert register(store) < register(store)


def test_registration_is_resumed_while_node_session_and_epoch_are_the_same() -> None:
    server, store = prepared()
    epoch = register(store)
    assert run(resume(store, 1, epoch))
    assert not run(resume(store, 1, epoch - 1))
    assert not run(resume(server.session(), 1, epoch))
    server.expire(store)
    assert not run(resume(server.session(), 1, epoch))


def test_id_of_another_live_broker_is_refused_with_both_sessions() -> None:
    server, store = prepared()
    register(server.session())
    with pytest.raises(RegistrationRefusedError, match="is taken: .* session 0x2 .*h:9092.*, ours is 0x1"):
        register(store)


def test_address_of_another_broker_is_refused() -> None:
    server, store = prepared()
    register(server.session(), broker_id=2)
    with pytest.raises(RegistrationRefusedError, match="PLAINTEXT://h:9092, and so does broker 2"):
        register(store)
    register(store, port=9093)

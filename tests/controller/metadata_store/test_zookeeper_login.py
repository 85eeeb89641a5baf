"""Who we are to ZooKeeper: SASL DIGEST-MD5, TLS by PEM files, and nodes that belong to their creator."""
from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from pytest_trio import trio_fixture

from broker.config.values import Password
from broker.config.zookeeper_login import DigestCredentials
from broker.config.zookeeper_rules import TlsSettings
from controller.metadata_store.errors import StoreRefusedError
from controller.metadata_store.operations import Create, Exists, SessionState
from controller.metadata_store.zookeeper import ZooKeeperSettings, ZooKeeperStore, open_session
from controller.metadata_store.zookeeper_sasl import SaslFailedError, parse_challenge, respond
from controller.metadata_store.zookeeper_settings import Access, access_of
from tests.conftest import unavailable
from tests.controller.metadata_store.conformance import next_event
from tests.peers.processes import PeerUnavailableError, free_ports
from tests.peers.tcp_proxy import TcpProxy
from tests.peers.zookeeper import KAFKAS, ZooKeeperServer, classpath

BOB = DigestCredentials("bob", Password('se"cr\\et'))
SERVER_JAAS = """Server {
  org.apache.zookeeper.server.auth.DigestLoginModule required
  user_bob="se\\"cr\\\\et" user_eve="eve";
};
"""
KEY_PASSWORD = "hush"


class Secrets:
    """Two authorities, a server's store and a client's, in PEM files as ZooKeeper reads them too."""

    def __init__(self, folder: Path) -> None:
        ours, self.others = trustme.CA(), folder / "others.pem"
        trustme.CA().cert_pem.write_to_path(str(self.others))
        self.authority = folder / "authority.pem"
        ours.cert_pem.write_to_path(str(self.authority))
        self.server = folder / "server.pem"
        _write_store(self.server, ours.issue_cert("localhost"), serialization.NoEncryption())
        self.client = folder / "client.pem"
        _write_store(self.client, ours.issue_cert("ottla@example.org", common_name="ottla"),
                     serialization.BestAvailableEncryption(KEY_PASSWORD.encode()))


def _write_store(path: Path, leaf: trustme.LeafCert,
                 encryption: serialization.KeySerializationEncryption) -> None:
    """Java reads keys in PKCS #8 only."""
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path.write_bytes(pem + b"".join(each.bytes() for each in leaf.cert_chain_pems))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(tmp_path_factory.mktemp("secrets"))


class SecureServer:
    """One ZooKeeper with a plain port, where SASL is possible, and a TLS port that wants a certificate."""

    def __init__(self, secrets: Secrets, work_dir: Path) -> None:
        (self.secure_port,) = free_ports(1)
        jaas = work_dir / "jaas.conf"
        jaas.write_text(SERVER_JAAS)
        properties = {
            "secureClientPort": str(self.secure_port),
            "secureClientPortAddress": "127.0.0.1",
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": str(secrets.server), "ssl.trustStore.location": str(secrets.authority),
            "ssl.clientAuth": "want",
            "authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        }
        options = [f"-Djava.security.auth.login.config={jaas}"]
        self.server = ZooKeeperServer(classpath(KAFKAS), work_dir, None, properties, options)
        self.server.start()
        self.plain = ZooKeeperSettings(self.server.connect_string, "", 3000, 6000)
        self.secure = replace(self.plain, hosts=f"localhost:{self.secure_port}")


@pytest.fixture(scope="module")
def zookeeper(secrets: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    try:
        secure = SecureServer(secrets, tmp_path_factory.mktemp("zookeeper"))
    except PeerUnavailableError as error:
        unavailable(error)
    yield secure
    secure.server.kill()


Opener = Callable[[ZooKeeperSettings], Awaitable[ZooKeeperStore]]


@trio_fixture
async def open_store() -> AsyncIterator[Opener]:
    opened: list[ZooKeeperStore] = []

    async def open_(settings: ZooKeeperSettings) -> ZooKeeperStore:
        opened.append(await open_session(settings))
        return opened[-1]

    yield open_
    for store in opened:
        await store.close()


@pytest.fixture
def tls(secrets: Secrets) -> TlsSettings:
    return TlsSettings(None, None, str(secrets.authority), True, "TLSv1_2", "TLSv1_3")


def test_the_answer_to_a_challenge() -> None:
    """That the server takes it is shown below."""
    challenge = 'realm="zk-sasl-md5",nonce="no,\\"nce",charset=utf-8,algorithm=md5-sess,qop="auth"'
    answer, expected_of_server = respond(challenge, BOB, "mine")
    fields = parse_challenge(answer.decode())
    assert fields["username"] == "bob"
    assert fields["nonce"] == 'no,"nce'
    assert fields["digest-uri"] == "zookeeper/zk-sasl-md5"
    assert len(fields["response"]) == len(expected_of_server) == 32
    assert fields["response"] != expected_of_server


def test_a_server_without_digest_is_refused() -> None:
    with pytest.raises(SaslFailedError):
        respond('mechanism="GSSAPI"', BOB, "mine")


@pytest.mark.trio
async def test_nodes_made_after_a_login_belong_to_their_creator(
    zookeeper: SecureServer, open_store: Opener
) -> None:
    bob = await open_store(replace(zookeeper.plain, chroot="/sasl", sasl=BOB, acl=True))
    await bob.submit([Create("/config"), Create("/config/users", b"secret"), Create("/consumers"),
                      Create("/plain", b"shown")])
    anybody = await open_store(replace(zookeeper.plain, chroot="/sasl"))
    assert (await anybody.get_data("/plain")).data == b"shown"
    with pytest.raises(StoreRefusedError, match="no access"):
        await anybody.get_data("/config/users")
    with pytest.raises(StoreRefusedError, match="no access"):
        await anybody.set_data("/plain", b"changed")
    await anybody.create("/consumers/old")
    again = await open_store(replace(zookeeper.plain, chroot="/sasl", sasl=BOB, acl=True))
    assert (await again.get_data("/config/users")).data == b"secret"


@pytest.mark.trio
@pytest.mark.parametrize("who", [
    DigestCredentials("bob", Password("wrong")), DigestCredentials("nobody", Password(""))])
async def test_a_refused_login_is_said_at_once(zookeeper: SecureServer, who: DigestCredentials) -> None:
    with pytest.raises(StoreRefusedError, match="refuses the login"), trio.fail_after(3):
        await open_session(replace(zookeeper.plain, sasl=who))


@pytest.mark.trio
async def test_the_login_is_repeated_on_every_connection(zookeeper: SecureServer, open_store: Opener) -> None:
    proxy = TcpProxy(zookeeper.server.address)
    store = await open_store(replace(zookeeper.plain, hosts=proxy.connect_string, chroot="/again", sasl=BOB,
                                     acl=True))
    await store.create("/config")
    await store.create("/config/users", b"secret")
    proxy.cut()
    assert [(await next_event(store)).state for _ in range(2)] == [
        SessionState.SUSPENDED, SessionState.CONNECTED]
    assert (await store.get_data("/config/users")).data == b"secret"
    proxy.close()


@pytest.mark.trio
async def test_without_a_login_nodes_cannot_belong_to_us(zookeeper: SecureServer, open_store: Opener) -> None:
    store = await open_store(zookeeper.plain)
    store._codec = type(store._codec)("", secure=True)
    with pytest.raises(StoreRefusedError, match="has to log in"):
        await store.create("/owned")


@pytest.mark.trio
async def test_tls_with_an_authority_of_our_own(
    zookeeper: SecureServer, open_store: Opener, tls: TlsSettings
) -> None:
    store = await open_store(replace(zookeeper.secure, tls=tls, chroot="/tls"))
    outcomes = await store.submit([Create(f"/{number}", b"x" * 20_000) for number in range(100)])
    assert [getattr(outcome, "path", "") for outcome in outcomes] == [f"/{number}" for number in range(100)]
    found = await store.submit([Exists(f"/{number}") for number in range(100)])
    assert len(found) == 100


@pytest.mark.trio
async def test_answers_that_were_decrypted_together_do_not_wait(
    zookeeper: SecureServer, open_store: Opener, tls: TlsSettings
) -> None:
    """kazoo looks at the descriptor, which is silent when the next answer has been read with this one."""
    store = await open_store(replace(zookeeper.secure, tls=tls, max_in_flight=50))
    started = trio.current_time()
    for _ in range(20):
        await store.submit([Exists("/")] * 50)
    assert trio.current_time() - started < 2


@pytest.mark.trio
async def test_a_client_certificate_is_a_login(
    zookeeper: SecureServer, open_store: Opener, secrets: Secrets, tls: TlsSettings
) -> None:
    tls = tls._replace(key_path=str(secrets.client), key_password=Password(KEY_PASSWORD))
    store = await open_store(replace(zookeeper.secure, tls=tls, chroot="/certificate", acl=True))
    await store.submit([Create("/config"), Create("/config/users", b"secret")])
    anybody = await open_store(replace(zookeeper.plain, chroot="/certificate"))
    with pytest.raises(StoreRefusedError, match="no access"):
        await anybody.get_data("/config/users")
    assert (await store.get_data("/config/users")).data == b"secret"


@pytest.mark.trio
@pytest.mark.parametrize("password", [None, Password("wrong")])
async def test_files_that_cannot_be_used_are_named_at_once(
    secrets: Secrets, tls: TlsSettings, password: Password | None, tmp_path: Path
) -> None:
    """Without a server: the encrypted key, and a trust store that is not there."""
    nowhere = ZooKeeperSettings("127.0.0.1:1", "", 3000, 6000)
    encrypted = tls._replace(key_path=str(secrets.client), key_password=password)
    missing = tls._replace(trust_path=str(tmp_path / "missing.pem"))
    for each, named in ((encrypted, secrets.client), (missing, tmp_path / "missing.pem")):
        with pytest.raises(StoreRefusedError, match=str(named)), trio.fail_after(1):
            await open_session(replace(nowhere, tls=each))


@pytest.mark.trio
async def test_servers_that_cannot_be_trusted_are_not_talked_to(
    zookeeper: SecureServer, secrets: Secrets, tls: TlsSettings
) -> None:
    by_address = replace(zookeeper.secure, hosts=f"127.0.0.1:{zookeeper.secure_port}")
    for settings, trust in ((zookeeper.secure, str(secrets.others)), (zookeeper.secure, None),
                            (by_address, str(secrets.authority))):
        settings = replace(settings, connection_timeout_ms=300, tls=tls._replace(trust_path=trust))
        with pytest.raises(StoreRefusedError, match="CERTIFICATE_VERIFY_FAILED"):
            await open_session(settings)
    unchecked = replace(by_address, tls=tls._replace(check_host_name=False))
    store = await open_session(unchecked)
    await store.close()


@pytest.mark.trio
async def test_plain_text_on_a_tls_port_and_the_reverse_are_no_connection(
    zookeeper: SecureServer, tls: TlsSettings
) -> None:
    for settings in (replace(zookeeper.secure, tls=None), replace(zookeeper.plain, tls=tls)):
        with pytest.raises(StoreRefusedError, match="300 ms"):
            await open_session(replace(settings, connection_timeout_ms=300))


@pytest.mark.parametrize(("path", "access"), [
    ("/brokers/ids/1", Access.READABLE), ("/controller", Access.READABLE), ("/", Access.READABLE),
    ("/consumers", Access.OPEN), ("/consumers/group", Access.READABLE), ("/config/users", Access.PRIVATE),
    ("/config/users/u", Access.PRIVATE), ("/config/brokers/1", Access.PRIVATE),
    ("/config/topics/t", Access.READABLE), ("/delegation_token/tokens/x", Access.PRIVATE),
])
def test_access_as_kafka_gives_it(path: str, access: Access) -> None:
    assert access_of(path, secure=True) is access
    assert access_of(path, secure=False) is Access.OPEN

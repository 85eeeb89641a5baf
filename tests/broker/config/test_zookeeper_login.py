"""The login that the JVM's options and a JAAS file ask for."""
from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.errors import ConfigError
from broker.config.values import Password
from broker.config.zookeeper_login import (
    DigestCredentials,
    JaasSyntaxError,
    LoginModule,
    find_login,
    parse_jaas,
)

JAAS = """
// for the listeners
KafkaServer {
   org.apache.kafka.common.security.plain.PlainLoginModule required
   username=admin password="with \\"quotes\\" and ; {" /* old:
   password="x" */ serviceName = kafka;
};
# for ZooKeeper
Client { org.apache.zookeeper.server.auth.DigestLoginModule required username="bob" password="s=c;ret"; };
Other {
   com.sun.security.auth.module.Krb5LoginModule sufficient useKeyTab=true;
   org.apache.zookeeper.server.auth.DigestLoginModule required;
};
"""
BOB = DigestCredentials("bob", Password("s=c;ret"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a b.jaas"
    path.write_text(JAAS)
    return path


def login_with(options: str) -> DigestCredentials | None:
    return find_login({"KAFKA_OPTS": options})


def test_a_jaas_file() -> None:
    digest = "org.apache.zookeeper.server.auth.DigestLoginModule"
    sections = parse_jaas(JAAS)
    assert sections["KafkaServer"][0].options == {
        "username": "admin", "password": 'with "quotes" and ; {', "serviceName": "kafka"}
    assert sections["Client"] == [LoginModule(digest, {"username": "bob", "password": "s=c;ret"})]
    assert [module.name for module in sections["Other"]] == [
        "com.sun.security.auth.module.Krb5LoginModule", digest]


@pytest.mark.parametrize("text", [
    "Client", "Client {", "Client { a required; }", "Client { };", "Client { a required x; };",
    "Client { a required x=1 };",
])
def test_what_is_no_jaas_file(text: str) -> None:
    with pytest.raises(JaasSyntaxError):
        parse_jaas(text)


@pytest.mark.parametrize("form", [
    '-Djava.security.auth.login.config="{}"', "'-Djava.security.auth.login.config={}'",
    '-Xmx1g -Djava.security.auth.login.config=/none "-Djava.security.auth.login.config=file:{}" -Dx',
])
def test_the_file_is_named_by_the_options_of_the_jvm(file: Path, form: str) -> None:
    assert login_with(form.format(file)) == BOB


def test_without_file_section_or_wish_there_is_no_login(file: Path) -> None:
    named = f"'-Djava.security.auth.login.config={file}'"
    assert find_login({}) is None
    assert login_with("-Xmx1g") is None
    assert login_with(f"{named} -Dzookeeper.sasl.client=false") is None
    assert login_with(f"{named} -Dzookeeper.sasl.clientconfig=Nobody") is None


def test_what_cannot_be_served_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="Krb5LoginModule") as raised:
        login_with(f"'-Djava.security.auth.login.config={file}' -Dzookeeper.sasl.clientconfig=Other")
    assert raised.value.refused


@pytest.mark.parametrize("text", ["Client {", 'Client { org.apache.zookeeper.server.auth.DigestLoginModule '
                                              'required username="bob"; };'])
def test_a_file_that_is_wrong_is_a_fault(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        login_with(f"'-Djava.security.auth.login.config={file}'")
    assert not raised.value.refused
    file.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        login_with(f"'-Djava.security.auth.login.config={file}'")

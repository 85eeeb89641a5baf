"""The login at ZooKeeper that Java's settings ask for: the JAAS file's `Client` section.

Kafka takes it from the JVM's options, so it stands in KAFKA_OPTS: `-Djava.security.auth.login.config=FILE`,
with `-Dzookeeper.sasl.clientconfig=NAME` for a section of another name and `-Dzookeeper.sasl.client=false`
for none. Only DIGEST-MD5 can be served; a section that asks for another module is refused, because without
its login the node would meet, and make, nodes with other owners.

Runs in: supervisor, at start. Reads one file.
"""
from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from broker.config.errors import ConfigError
from broker.config.values import Password

_OPTIONS = "KAFKA_OPTS"
_FILE_PROPERTY = "java.security.auth.login.config"
_SECTION_PROPERTY = "zookeeper.sasl.clientconfig"
_SWITCH_PROPERTY = "zookeeper.sasl.client"
_DIGEST_MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"

_TOKEN = re.compile(r'//[^\n]*|#[^\n]*|/\*.*?\*/|"((?:[^"\\]|\\.)*)"|([{}=;])|([^\s{}=;"]+)', re.DOTALL)


class DigestCredentials(NamedTuple):
    username: str
    password: Password


class LoginModule(NamedTuple):
    name: str
    options: dict[str, str]


class JaasSyntaxError(ValueError):
    """The text is not in the form that Java's ConfigFile reads; says where."""


def find_login(environment: Mapping[str, str]) -> DigestCredentials | None:
    """None when Java would not log in either. Raises ConfigError."""
    properties = _java_properties(environment.get(_OPTIONS, ""))
    path = properties.get(_FILE_PROPERTY)
    if not path or properties.get(_SWITCH_PROPERTY, "true").lower() != "true":
        return None
    key = f"{_OPTIONS}, -D{_FILE_PROPERTY}"
    try:
        text = Path(path.removeprefix("=").removeprefix("file:")).read_text()
        sections = parse_jaas(text)
    except (OSError, ValueError) as error:
        raise ConfigError(key, path, f"a readable JAAS file, but: {error}", "correct it") from None
    name = properties.get(_SECTION_PROPERTY, "Client")
    modules = sections.get(name)
    if modules is None:
        return None
    return _digest_of(key, path, name, modules)


def _java_properties(options: str) -> dict[str, str]:
    """`-Dname=value` of a command line; the later of two wins."""
    try:
        words = shlex.split(options)
    except ValueError:  # an open quote: the JVM's launcher splits at blanks
        words = options.split()
    pairs = (word[2:].partition("=") for word in words if word.startswith("-D"))
    return {name: value for name, _, value in pairs}


def _digest_of(key: str, path: str, name: str, modules: list[LoginModule]) -> DigestCredentials:
    module = modules[0]
    if module.name != _DIGEST_MODULE:
        raise ConfigError(
            key, path, f"its section {name} asks for {module.name}; a login at ZooKeeper is possible with "
            f"{_DIGEST_MODULE} only",
            "use that one, or TLS with a certificate, or remove the section", refused=True)
    if "username" not in module.options or "password" not in module.options:
        raise ConfigError(key, path, f"username and password in its section {name}", "add them")
    return DigestCredentials(module.options["username"], Password(module.options["password"]))


def parse_jaas(text: str) -> dict[str, list[LoginModule]]:
    """Sections by name. Raises JaasSyntaxError."""
    tokens = _tokens(text)
    position = 0
    sections: dict[str, list[LoginModule]] = {}

    def take(expected: str | None = None) -> str:
        nonlocal position
        token = tokens[position] if position < len(tokens) else "the end"
        if position >= len(tokens) or expected is not None and token != expected:
            raise JaasSyntaxError(f"{expected or 'a word'} expected, not {token}")
        position += 1
        return token

    while position < len(tokens):
        name = take()
        take("{")
        modules = sections.setdefault(name, [])
        while tokens[position:position + 1] != ["}"]:
            module = LoginModule(take(), {})
            take()  # required, requisite, sufficient, optional
            while tokens[position:position + 1] != [";"]:
                option = take()
                take("=")
                module.options[option] = take()
            take(";")
            modules.append(module)
        take("}")
        take(";")
        if not modules:
            raise JaasSyntaxError(f"section {name} is empty")
    return sections


def _tokens(text: str) -> list[str]:
    """Words, texts without their quotes, and the marks `{ } = ;`."""
    found = []
    for match in _TOKEN.finditer(text):
        quoted, mark, word = match.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted))
        elif mark or word:
            found.append(mark or word)
    return found

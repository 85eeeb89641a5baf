"""What the zookeeper.* keys come to together: address, TLS and login, or what is wrong with them.

Certificates and keys have to be PEM files: Java's own formats (JKS, PKCS12) need Java, or a library that
this broker does without.

Runs in: supervisor, at start (reads the JAAS file that the environment names).
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from broker.config.errors import ConfigError
from broker.config.settings import Settings
from broker.config.values import Password
from broker.config.zookeeper_address import AddressSyntaxError, ZooKeeperAddress, parse_address
from broker.config.zookeeper_login import DigestCredentials, find_login

_CONNECT = "zookeeper.connect"
_TIMEOUTS = ("zookeeper.session.timeout.ms", "zookeeper.connection.timeout.ms")
_CLIENT_TLS = "zookeeper.ssl.client.enable"
_KEY_STORE = "zookeeper.ssl.keystore"
_TRUST_STORE = "zookeeper.ssl.truststore"
_VERSIONS = {"TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}
_STORE_ENDINGS = {".jks": "JKS", ".p12": "PKCS12", ".pfx": "PKCS12", ".pem": "PEM", ".bcfks": "BCFKS"}


class TlsSettings(NamedTuple):
    """Paths of PEM files. key_path: private key and certificates in one file, None for no client certificate.
    trust_path: None for the system's authorities. Versions by the names of Python's ssl.TLSVersion."""

    key_path: str | None
    key_password: Password | None
    trust_path: str | None
    check_host_name: bool
    lowest_version: str
    highest_version: str


class ZooKeeperSetup(NamedTuple):
    address: ZooKeeperAddress
    tls: TlsSettings | None
    login: DigestCredentials | None


def resolve_zookeeper(settings: Settings, environment: Mapping[str, str]) -> ZooKeeperSetup | None:
    """Reports what is wrong to settings; None without zookeeper.connect, or if its text is no address."""
    if settings[_CONNECT] is None:
        return None
    try:
        address = parse_address(settings[_CONNECT])
    except AddressSyntaxError as error:
        settings.report(settings.fault(_CONNECT, str(error), (
            "correct it, or remove the line to run a single node that keeps its metadata in the file "
            "ottla.metadata.path")))
        return None
    login = None
    try:
        login = find_login(environment)
    except ConfigError as error:
        settings.report(error)
    for faults in (_timeout_faults, _control_plane_faults, _store_faults, _version_faults):
        for fault in faults(settings):
            settings.report(fault)
    tls = _tls_settings(settings) if settings[_CLIENT_TLS] else None
    for fault in _access_faults(settings, tls, login):
        settings.report(fault)
    return ZooKeeperSetup(address, tls, login)


def _timeout_faults(settings: Settings) -> Iterator[ConfigError]:
    for name in _TIMEOUTS:
        if settings[name] is not None and settings[name] < 1:
            yield settings.fault(name, "at least 1", "correct it, or leave the key out")


def _control_plane_faults(settings: Settings) -> Iterator[ConfigError]:
    name = "control.plane.listener.name"
    if settings[name] is not None:
        yield ConfigError(
            name, settings.text(name), "the controller reaches brokers by the listener between brokers only",
            "remove the line here and on the other brokers of the cluster", refused=True)


def _store_faults(settings: Settings) -> Iterator[ConfigError]:
    if not settings[_CLIENT_TLS]:
        return
    for store in (_KEY_STORE, _TRUST_STORE):
        path, kind = settings[f"{store}.location"], _store_type(settings, store)
        if path and kind != "PEM":
            yield ConfigError(
                f"{store}.location", path,
                f"a PEM file, as key stores of type {kind or 'JKS'} cannot be read without Java",
                "export it, such as by keytool -importkeystore to PKCS12 and openssl pkcs12 to PEM, and name "
                f"the file *.pem or set {store}.type=PEM", refused=True)


def _store_type(settings: Settings, store: str) -> str | None:
    """By the key, else by the file's ending, as ZooKeeper's client finds it."""
    named = settings[f"{store}.type"]
    if named:
        return str(named).upper()
    path = settings[f"{store}.location"] or ""
    return next((kind for ending, kind in _STORE_ENDINGS.items() if path.endswith(ending)), None)


def _version_faults(settings: Settings) -> Iterator[ConfigError]:
    if not settings[_CLIENT_TLS]:
        return
    key = "zookeeper.ssl.enabled.protocols"
    name = key if settings[key] else "zookeeper.ssl.protocol"
    if not set(_versions(settings)) <= _VERSIONS.keys():
        yield ConfigError(name, settings.text(name), f"only {' and '.join(_VERSIONS)}; older ones are not secure",
                          "correct it, or leave the key out", refused=True)


def _versions(settings: Settings) -> list[str]:
    return settings["zookeeper.ssl.enabled.protocols"] or [settings["zookeeper.ssl.protocol"]]


def _tls_settings(settings: Settings) -> TlsSettings:
    versions = sorted(_VERSIONS[each] for each in _versions(settings) if each in _VERSIONS) or ["TLSv1_2"]
    algorithm = settings["zookeeper.ssl.endpoint.identification.algorithm"]
    return TlsSettings(
        key_path=settings[f"{_KEY_STORE}.location"] or None,
        key_password=settings[f"{_KEY_STORE}.password"],
        trust_path=settings[f"{_TRUST_STORE}.location"] or None,
        check_host_name=(algorithm or "").upper() == "HTTPS",
        lowest_version=versions[0],
        highest_version=versions[-1],
    )


def _access_faults(settings: Settings, tls: TlsSettings | None,
                   login: DigestCredentials | None) -> Iterator[ConfigError]:
    """Nodes that belong to their creator need a creator that is somebody."""
    if settings["zookeeper.set.acl"] and login is None and (tls is None or tls.key_path is None):
        yield settings.fault(
            "zookeeper.set.acl", "true only with a login at ZooKeeper",
            "name a JAAS file with a section Client in KAFKA_OPTS, or set "
            "zookeeper.ssl.client.enable=true and zookeeper.ssl.keystore.location")

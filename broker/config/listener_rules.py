"""The listeners of a node, resolved and checked together: what is bound, what clients are told, and which
listener brokers use among themselves.

Runs in: supervisor, at start. May ask the resolver for the machine's name (see host_name.py).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from broker.config.errors import ConfigError
from broker.config.listeners import (
    Listener,
    ListenerSyntaxError,
    duplicate_faults,
    parse_listeners,
    parse_protocol_map,
    split_csv,
)
from broker.config.settings import Settings
from broker.config.versions import SASL_HANDSHAKE_FROM, version_index

_BOUND = "listeners"
_ADVERTISED = "advertised.listeners"
_MAP = "listener.security.protocol.map"
_INTER_BROKER = "inter.broker.listener.name"
_INTER_BROKER_PROTOCOL = "security.inter.broker.protocol"
_CONTROL_PLANE = "control.plane.listener.name"
_MECHANISM = "sasl.mechanism.inter.broker.protocol"
_CORRECT = "correct it, or leave the key out"


class ListenerSetup(NamedTuple):
    """advertised: what clients are told, every host filled in; a subset of the names in listeners."""

    listeners: list[Listener]
    advertised: list[Listener]
    inter_broker_name: str


def resolve_listeners(settings: Settings, host_name: Callable[[], str]) -> ListenerSetup | None:
    """Reports what is wrong to settings; None if there is no telling what the listeners would be."""
    protocols = _parse_map(settings)
    if protocols is None:
        return None
    listeners = _parse(settings, _BOUND, protocols)
    advertised = listeners
    if settings[_ADVERTISED] is not None:
        advertised = _parse(settings, _ADVERTISED, protocols)
    if listeners is None or advertised is None:
        return None
    inter_broker_name = _inter_broker_name(settings, protocols)
    if inter_broker_name is None:
        return None
    setup = ListenerSetup(listeners, advertised, inter_broker_name)
    for error in list(_faults(settings, setup, protocols)):
        settings.report(error)
    return setup._replace(advertised=_fill_in_hosts(settings, advertised, host_name))


def _parse_map(settings: Settings) -> dict[str, str] | None:
    try:
        return parse_protocol_map(settings[_MAP])
    except ListenerSyntaxError as error:
        settings.report(settings.fault(_MAP, str(error), _CORRECT))
        return None


def _parse(settings: Settings, name: str, protocols: dict[str, str]) -> list[Listener] | None:
    try:
        return parse_listeners(settings[name], protocols)
    except ListenerSyntaxError as error:
        settings.report(settings.fault(name, str(error), _CORRECT))
        return None


def _inter_broker_name(settings: Settings, protocols: dict[str, str]) -> str | None:
    """The listener that brokers use: by name, or the one called like the security protocol."""
    name = settings[_INTER_BROKER]
    if name is None:
        return str(settings[_INTER_BROKER_PROTOCOL])
    if _INTER_BROKER_PROTOCOL in settings.explicit:
        settings.report(settings.fault(
            _INTER_BROKER, f"not set together with {_INTER_BROKER_PROTOCOL}", "remove one of the two lines"
        ))
        return None
    if name.upper() not in protocols:
        settings.report(settings.fault(_INTER_BROKER, f"a name in {_MAP}", _CORRECT))
        return None
    return str(name.upper())


def _faults(settings: Settings, setup: ListenerSetup, protocols: dict[str, str]) -> Iterator[ConfigError]:
    for fault in duplicate_faults(setup.listeners, distinct_ports=True):
        yield settings.fault(_BOUND, fault, "correct it")
    if settings[_ADVERTISED] is not None:
        for fault in duplicate_faults(setup.advertised, distinct_ports=False):
            yield settings.fault(_ADVERTISED, fault, "correct it")
    yield from _protocol_faults(settings, setup)
    yield from _advertised_faults(settings, setup)
    yield from _control_plane_faults(settings, setup, protocols)
    yield from _early_start_faults(settings, setup)
    yield from _sasl_faults(settings, setup, protocols)


def _protocol_faults(settings: Settings, setup: ListenerSetup) -> Iterator[ConfigError]:
    for listener in setup.listeners:
        if listener.security_protocol != "PLAINTEXT":
            yield ConfigError(
                _BOUND, str(listener),
                f"{listener.security_protocol} is not in this version yet, only PLAINTEXT",
                "remove the listener, or make it PLAINTEXT where the network can be trusted",
                refused=True,
            )


def _advertised_faults(settings: Settings, setup: ListenerSetup) -> Iterator[ConfigError]:
    source = _BOUND if settings[_ADVERTISED] is None else _ADVERTISED
    names = {listener.name for listener in setup.advertised}
    bound = {listener.name for listener in setup.listeners}
    if not names:
        yield settings.fault(source, "at least one listener", "add one, such as PLAINTEXT://:9092")
    elif setup.inter_broker_name not in names:
        key = _INTER_BROKER if settings[_INTER_BROKER] is not None else _INTER_BROKER_PROTOCOL
        yield settings.fault(
            key, f"an advertised listener: {', '.join(sorted(names))}",
            f"set {_INTER_BROKER} to one of them",
        )
    if not names <= bound:
        yield settings.fault(
            _ADVERTISED, f"only names in {_BOUND}: {', '.join(sorted(bound))}",
            f"correct it, or extend {_BOUND}",
        )
    if any(listener.host == "0.0.0.0" for listener in setup.advertised):
        yield settings.fault(
            source, "hosts that clients can reach, not 0.0.0.0", f"name the host in {_ADVERTISED}"
        )


def _control_plane_faults(
    settings: Settings, setup: ListenerSetup, protocols: dict[str, str]
) -> Iterator[ConfigError]:
    name = settings[_CONTROL_PLANE]
    if name is None:
        return
    names = {listener.name for listener in setup.advertised}
    if name.upper() not in protocols or name.upper() not in names:
        yield settings.fault(_CONTROL_PLANE, f"an advertised listener: {', '.join(sorted(names))}", _CORRECT)
    elif name.upper() == setup.inter_broker_name:
        yield settings.fault(
            _CONTROL_PLANE, "another listener than the one between brokers", "add a listener for it"
        )


def _early_start_faults(settings: Settings, setup: ListenerSetup) -> Iterator[ConfigError]:
    names = {listener.name for listener in setup.listeners}
    if not set(split_csv(settings["early.start.listeners"] or "")) <= names:
        yield settings.fault("early.start.listeners", f"only names in {_BOUND}", _CORRECT)


def _sasl_faults(
    settings: Settings, setup: ListenerSetup, protocols: dict[str, str]
) -> Iterator[ConfigError]:
    """Between brokers, the mechanism must be one that the listener offers."""
    if not protocols.get(setup.inter_broker_name, setup.inter_broker_name).startswith("SASL_"):
        return
    mechanism = settings[_MECHANISM]
    prefixed = f"listener.name.{setup.inter_broker_name.lower()}.sasl.enabled.mechanisms"
    enabled = settings["sasl.enabled.mechanisms"]
    if prefixed in settings.explicit:
        enabled = [item.strip() for item in settings.explicit[prefixed].split(",")]
    if mechanism not in enabled:
        yield settings.fault(_MECHANISM, f"one of sasl.enabled.mechanisms: {', '.join(enabled)}", _CORRECT)
    version = version_index(settings["inter.broker.protocol.version"])
    if version is not None and version < SASL_HANDSHAKE_FROM and mechanism != "GSSAPI":
        yield settings.fault(_MECHANISM, "GSSAPI with this inter.broker.protocol.version", _CORRECT)


def _fill_in_hosts(
    settings: Settings, listeners: list[Listener], host_name: Callable[[], str]
) -> list[Listener]:
    if all(listener.host for listener in listeners):
        return listeners
    try:
        host = host_name()
    except OSError as error:
        settings.report(settings.fault(
            _ADVERTISED, f"set, as this machine's own name has no address ({error})",
            f"set {_ADVERTISED} to hosts that clients can reach",
        ))
        return listeners
    return [listener if listener.host else listener._replace(host=host) for listener in listeners]

"""Listeners of a whole configuration."""
from __future__ import annotations

import socket

import pytest

from broker.config import ConfigErrors, Listener, build_config
from tests.broker.config.faults import HOST, errors_of, faulty_keys


def test_without_settings_one_listener_is_bound_everywhere_and_advertised_by_name() -> None:
    config = build_config({}, lambda: HOST)
    assert config.listeners == [Listener("PLAINTEXT", "PLAINTEXT", "", 9092)]
    assert config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", HOST, 9092)]
    assert config.inter_broker_listener_name == "PLAINTEXT"


def test_the_machine_is_not_asked_for_its_name_without_need() -> None:
    def never() -> str:
        raise AssertionError("asked")

    settings = {"listeners": "PLAINTEXT://:9092", "advertised.listeners": "PLAINTEXT://a.example:1"}
    config = build_config(settings, never)
    assert config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", "a.example", 1)]


def test_a_machine_without_a_name_must_be_given_one() -> None:
    def nameless() -> str:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(ConfigErrors) as raised:
        build_config({}, nameless)
    [error] = raised.value.errors
    assert error.key == "advertised.listeners"


def test_several_listeners_and_the_one_between_brokers() -> None:
    config = build_config(
        {
            "listeners": "INT://10.0.0.1:9092,EXT://:9093",
            "advertised.listeners": "INT://10.0.0.1:9092,EXT://kafka.example:443",
            "listener.security.protocol.map": "INT:PLAINTEXT,EXT:PLAINTEXT",
            "inter.broker.listener.name": "int",
        },
        lambda: HOST,
    )
    assert config.inter_broker_listener_name == "INT"
    advertised = [str(each) for each in config.advertised_listeners]
    assert advertised == ["INT://10.0.0.1:9092", "EXT://kafka.example:443"]


EXT = {"listener_security_protocol_map": "PLAINTEXT:PLAINTEXT,EXT:PLAINTEXT"}


@pytest.mark.parametrize(
    ("settings", "faulty"),
    [
        ({"listeners": ""}, ["listeners"]),
        ({"listeners": "PLAINTEXT//h"}, ["listeners"]),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, ["listeners"]),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092", "advertised_listeners": "PLAINTEXT://h:1"}, []),
        ({"advertised_listeners": "PLAINTEXT://0.0.0.0:9092"}, ["advertised.listeners"]),
        ({"advertised_listeners": ""}, ["advertised.listeners"]),
        ({**EXT, "advertised_listeners": "PLAINTEXT://h:1,EXT://h:2"}, ["advertised.listeners"]),
        ({**EXT, "listeners": "PLAINTEXT://h:1,EXT://h:1"}, ["listeners"]),
        ({**EXT, "listeners": "EXT://h:1"}, ["security.inter.broker.protocol"]),
        ({**EXT, "listeners": "EXT://h:1", "inter_broker_listener_name": "ext"}, []),
        ({**EXT, "listeners": "EXT://h:1", "inter_broker_listener_name": "PLAINTEXT"},
         ["inter.broker.listener.name"]),
        ({"inter_broker_listener_name": "NOBODY"}, ["inter.broker.listener.name"]),
        ({"inter_broker_listener_name": "PLAINTEXT", "security_inter_broker_protocol": "PLAINTEXT"},
         ["inter.broker.listener.name"]),
        ({"listener_security_protocol_map": "PLAINTEXT"}, ["listener.security.protocol.map"]),
        ({"control_plane_listener_name": "PLAINTEXT"}, ["control.plane.listener.name"]),
        ({"control_plane_listener_name": "EXT"}, ["control.plane.listener.name"]),
        ({**EXT, "listeners": "PLAINTEXT://h:1,EXT://h:2", "control_plane_listener_name": "ext"}, []),
        ({"early_start_listeners": "EXT"}, ["early.start.listeners"]),
    ],
)
def test_listeners_fit_together(settings: dict[str, str], faulty: list[str]) -> None:
    assert faulty_keys(**settings) == faulty


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_listeners_that_promise_security_are_refused(protocol: str) -> None:
    errors = errors_of(listeners=f"PLAINTEXT://h:1,{protocol}://h:2")
    assert [(error.key, error.value, error.refused) for error in errors] == [
        ("listeners", f"{protocol}://h:2", True)
    ]


def test_the_mechanism_between_brokers_must_be_enabled() -> None:
    settings = {
        "listeners": "SASL_PLAINTEXT://h:1",
        "security_inter_broker_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism_inter_broker_protocol": "PLAIN",
    }
    assert faulty_keys(**settings) == ["listeners", "sasl.mechanism.inter.broker.protocol"]
    assert faulty_keys(**settings, sasl_enabled_mechanisms="PLAIN") == ["listeners"]

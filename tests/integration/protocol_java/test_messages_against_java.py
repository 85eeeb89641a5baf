"""Our codec against the classes that Kafka 3.9.1 generates: every message, every version, random values.

One JVM answers all questions. The seed is printed; `OTTLA_TEST_SEED` repeats a run.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, NamedTuple

import pytest

from broker.protocol.api_keys import API_SPECS, request_header_version, response_header_version
from broker.protocol.codec import decode, encode
from broker.protocol.errors import ErrorCode, UnsupportedVersionError, invalidates_metadata, is_retriable
from broker.protocol.messages import message_class
from broker.protocol.schema import message_names
from tests.broker.protocol.json_form import to_json
from tests.broker.protocol.values import MessageMaker, all_messages_and_versions, unfit_messages, versions_of
from tests.integration.protocol_java.oracle import MessageOracle

pytestmark = pytest.mark.kafka

VALUES_PER_VERSION = 10


class Case(NamedTuple):
    """A message and our bytes of it; None when we refuse to encode it in that version."""

    name: str
    version: int
    message: Any
    data: bytes | None

    def difference(self, ours: object, javas: object) -> str:
        return f"{self.name} version {self.version}\n ours {ours}\n Java {javas}\n of   {self.message!r}"


@pytest.fixture(scope="module")
def seed() -> int:
    chosen = int(os.environ.get("OTTLA_TEST_SEED", 0)) or SystemRandom().getrandbits(32)
    print(f"OTTLA_TEST_SEED={chosen}")
    return chosen


@pytest.fixture(scope="module")
def oracle(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MessageOracle]:
    running = MessageOracle(kafka_libs, tmp_path_factory.mktemp("oracle"))
    yield running
    running.close()


def _case(name: str, version: int, message: Any) -> Case:
    try:
        return Case(name, version, message, encode(message, version))
    except UnsupportedVersionError:
        return Case(name, version, message, None)


def _make_cases(seed: int, unknown_tags: bool) -> list[Case]:
    maker = MessageMaker(Random(seed), unknown_tags)
    cases = []
    for name, version in all_messages_and_versions():
        for _ in range(VALUES_PER_VERSION):
            cases.append(_case(name, version, maker.make(message_class(name), version)))
    return cases


def _encode_question(case: Case, json_version: int) -> str:
    return f"encode {case.name} {case.version} {json_version} {json.dumps(to_json(case.message, json_version))}"


def _report(differences: list[str], seed: int | None = None) -> None:
    shown = "\n".join(differences[:5])
    assert not differences, f"{len(differences)} differences, OTTLA_TEST_SEED={seed}\n{shown}"


def test_java_has_the_same_versions_of_every_message(oracle: MessageOracle) -> None:
    names = message_names()
    ours = [f"ok {versions_of(name).start} {versions_of(name).stop - 1}" for name in names]
    theirs = oracle.ask([f"versions {name}" for name in names])
    assert dict(zip(names, theirs, strict=True)) == dict(zip(names, ours, strict=True))


def test_java_has_the_same_apis_and_header_versions(oracle: MessageOracle) -> None:
    ours = []
    for key, spec in API_SPECS.items():
        headers = "".join(f"{request_header_version(key, version)}{response_header_version(key, version)}"
                          for version in range(spec.min_version, spec.max_version + 1))
        ours.append(f"{key},{spec.name},{spec.min_version},{spec.max_version},"
                    f"{str(spec.zk_broker).lower()},{headers}")
    answer, = oracle.ask(["apis"])
    assert answer.removeprefix("ok ").split(" ") == ours


def test_java_has_the_same_errors(oracle: MessageOracle) -> None:
    ours = {f"{int(code)},{code.name},{str(is_retriable(code)).lower()},"
            f"{str(invalidates_metadata(code)).lower()}" for code in ErrorCode}
    answer, = oracle.ask(["errors"])
    assert set(answer.removeprefix("ok ").split(" ")) == ours


def test_java_writes_the_same_bytes(oracle: MessageOracle, seed: int) -> None:
    cases = _make_cases(seed, unknown_tags=False)
    assert all(case.data is not None for case in cases)
    answers = oracle.ask([_encode_question(case, case.version) for case in cases])
    _report([case.difference(f"ok {case.data.hex()}", answer)
             for case, answer in zip(cases, answers, strict=True)
             if case.data is not None and answer != f"ok {case.data.hex()}"], seed)


def test_java_reads_our_bytes_as_we_meant_them(oracle: MessageOracle, seed: int) -> None:
    """And writes them again unchanged, unknown tagged fields included."""
    cases = _make_cases(seed + 1, unknown_tags=True)
    answers = oracle.ask([f"decode {case.name} {case.version} {case.data.hex()}"
                                           for case in cases if case.data is not None])
    differences = []
    for case, answer in zip(cases, answers, strict=True):
        assert case.data is not None
        again, _, text = answer.removeprefix("ok ").partition(" ")
        ours = to_json(case.message, case.version, records=False)
        if again != case.data.hex():
            differences.append(case.difference(case.data.hex(), answer))
        elif json.loads(text) != ours:
            differences.append(case.difference(json.dumps(ours), text))
        elif decode(message_class(case.name), case.data, case.version)[0] != case.message:
            differences.append(case.difference("we read something else than we wrote", answer))
    _report(differences, seed)


def test_java_refuses_what_we_refuse_and_drops_what_we_drop(oracle: MessageOracle) -> None:
    """Each field that a version lacks set alone, each null out of place: refused, or dropped if ignorable."""
    cases, questions = [], []
    for name, version in all_messages_and_versions():
        for message, fit_version in unfit_messages(message_class(name), version):
            cases.append(_case(name, version, message))
            questions.append(_encode_question(cases[-1], fit_version))
    differences = []
    for case, answer in zip(cases, oracle.ask(questions), strict=True):
        ours = "error" if case.data is None else f"ok {case.data.hex()}"
        if not (answer == ours or (case.data is None and answer.startswith("error "))):
            differences.append(case.difference(ours, answer))
    assert {case.data is None for case in cases} == {True, False}
    _report(differences)

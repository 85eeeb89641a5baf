"""Asks the code of a real Apache Kafka about configuration, through `ConfigOracle.java`.

One JVM answers a whole list of questions and ends, so a test asks everything it wants at once.
Runs in: the test process.
"""
from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.peers.kafka_jars import java_command

_SOURCE = Path(__file__).with_name("ConfigOracle.java")
_JAVA_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.language=en")
_TIMEOUT_SECONDS = 240


class Answer(NamedTuple):
    """fields: what Kafka answered; for a refusal, its sentence."""

    accepted: bool
    fields: list[str]


class ConfigOracle:
    def __init__(self, kafka_libs: Path, work_dir: Path) -> None:
        self._class_path = f"{work_dir}:{kafka_libs}/*"
        command = [java_command("javac"), "-d", str(work_dir), "-cp", self._class_path, str(_SOURCE)]
        subprocess.run(command, check=True, timeout=_TIMEOUT_SECONDS)

    def ask(self, questions: Iterable[tuple[str, ...]]) -> list[Answer]:
        lines = ["\t".join(question) for question in questions]
        command = [java_command(), *_JAVA_OPTIONS, "-cp", self._class_path, "ConfigOracle"]
        result = subprocess.run(
            command, input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8",
            check=True, timeout=_TIMEOUT_SECONDS,
        )
        answers = [_answer(line) for line in result.stdout.split("\n")[:-1]]
        assert len(answers) == len(lines), result.stderr
        return answers


def _answer(line: str) -> Answer:
    word, *fields = line.split("\t")
    if word == "no":
        return Answer(False, [unpack(fields[0]) or ""])
    return Answer(True, fields)


def pack(text: str | None) -> str:
    return "~" if text is None else base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def pack_map(entries: dict[str, str]) -> str:
    return pack("\0".join(part for entry in entries.items() for part in entry))


def unpack(field: str) -> str | None:
    return None if field == "~" else base64.urlsafe_b64decode(field + "=" * (-len(field) % 4)).decode()


def unpack_list(field: str) -> list[str]:
    text = unpack(field)
    return text.split("\0") if text else []


def unpack_map(field: str) -> dict[str, str]:
    flat = unpack_list(field)
    return dict(zip(flat[::2], flat[1::2], strict=True))

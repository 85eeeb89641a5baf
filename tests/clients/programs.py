"""Builds and runs the client programs that are not Python: one Java class, one Go program per sarama.

Both take jobs `action,topic,codec,acks,idempotent[,...]` and print lines `acked`, `read`, `time`, `error`
(see java/RoundTrip.java, sarama/main.go); `Answers` holds them parsed.
Runs in: the test process; a run of a program is one child process for many jobs.
"""
from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.clients.dataset import PARTITIONS
from tests.peers.cache import cached_directory
from tests.peers.kafka_jars import client_libs, java_command
from tests.peers.processes import PeerUnavailableError

HERE = Path(__file__).parent
BUILD_TIMEOUT_SECONDS = 280
RUN_TIMEOUT_SECONDS = 240  # below the time that a test may take

# The oldest release gives the API that the program may use.
JAVA_COMPILED_AGAINST = "0.11.0.3"


class TimeAnswer(NamedTuple):
    partition: int
    timestamp_ms: int
    offset: int


class Answers:
    """What a program printed: digests as {topic: {partition: digest}}, look-ups by time, errors."""

    def __init__(self, output: str) -> None:
        self.acked: dict[str, dict[int, str]] = {}
        self.read: dict[str, dict[int, str]] = {}
        self.counts: dict[str, int] = {}
        self.times: list[TimeAnswer] = []
        self.errors: dict[str, str] = {}
        for line in output.splitlines():
            self._add(line.split())

    def _add(self, words: Sequence[str]) -> None:
        kind, topic = words[0], words[1]
        if kind == "time":
            self.times.append(TimeAnswer(int(words[2]), int(words[3]), int(words[4])))
        elif kind == "error":
            self.errors[topic] = words[2]
        else:
            digests = self.acked if kind == "acked" else self.read
            digests.setdefault(topic, {})[int(words[2])] = words[4]
            if kind == "read":
                self.counts[topic] = self.counts.get(topic, 0) + int(words[3])


class Program(NamedTuple):
    """A command that takes bootstrap, base timestamp, count, partitions and jobs."""

    name: str
    command: tuple[str, ...]
    codecs: tuple[str, ...]
    job_suffix: str = ""

    def run(self, bootstrap: str, base_timestamp_ms: int, count: int, jobs: Sequence[str]) -> Answers:
        """Runs the jobs in one process; AssertionError with its output when it fails."""
        numbers = [str(base_timestamp_ms), str(count), str(PARTITIONS)]
        command = [*self.command, bootstrap, *numbers, *(job + self.job_suffix for job in jobs)]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_TIMEOUT_SECONDS, check=False
        )
        output = result.stdout[-3000:] + result.stderr[-3000:]
        assert result.returncode == 0, f"{self.name} failed ({result.returncode}):\n{output}"
        return Answers(result.stdout)


ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
CODECS_BEFORE_2_1 = ALL_CODECS[:-1]


def java_program(version: str) -> Program:
    """RoundTrip with kafka-clients of this release."""
    source = HERE / "java" / "RoundTrip.java"
    compiled_against = client_libs(JAVA_COMPILED_AGAINST)
    compile_it = (java_command("javac"), "--release", "8", "-Xlint:-options", "-cp", f"{compiled_against}/*")
    classes = cached_directory(
        "round-trip-java",
        source.read_text(),
        lambda work: _build((*compile_it, "-d", str(work), str(source)), work),
    )
    codecs = CODECS_BEFORE_2_1 if version < "2.1" else ALL_CODECS
    jvm = (java_command(), "-Xmx256m", "-XX:+UseSerialGC")
    return Program(
        f"Java {version}", (*jvm, "-cp", f"{classes}:{client_libs(version)}/*", "RoundTrip"), codecs
    )


def sarama_program(version: str, protocol: str) -> Program:
    """The Go program with this sarama, told to speak as to a broker of release `protocol`."""
    source, mod = HERE / "sarama" / "main.go", HERE / "sarama" / f"sarama-{version}.mod"
    built = cached_directory(
        f"round-trip-sarama-{version}",
        source.read_text() + mod.read_text(),
        lambda work: _build_go(source, mod, work),
    )
    codecs = CODECS_BEFORE_2_1 if protocol < "2.1" else ALL_CODECS
    return Program(f"sarama {version} as {protocol}", (str(built / "round-trip"),), codecs, f",{protocol}")


def _build_go(source: Path, mod: Path, work: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise PeerUnavailableError("no go found: sarama is tested only where Go is installed")
    shutil.copy(source, work / "main.go")
    shutil.copy(mod, work / "go.mod")
    shutil.copy(mod.with_suffix(".sum"), work / "go.sum")
    _build([go, "build", "-o", "round-trip", "."], work)


def _build(command: Sequence[str], work: Path) -> None:
    result = subprocess.run(
        command, cwd=work, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{result.stdout}{result.stderr}")


def go_is_missing() -> bool:
    return shutil.which("go") is None


def run_filter(command: Sequence[str], make_input: Callable[[], bytes] | None = None) -> bytes:
    """Runs a command line client with this standard input; its output, or AssertionError with its errors."""
    result = subprocess.run(
        command,
        input=make_input() if make_input else None,
        capture_output=True,
        timeout=RUN_TIMEOUT_SECONDS,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    errors = result.stderr.decode(errors="replace")[-3000:]
    assert result.returncode == 0, f"{' '.join(command)}: exit {result.returncode}\n{errors}"
    return result.stdout

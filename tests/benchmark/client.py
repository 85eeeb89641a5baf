"""The two C clients of the benchmark, built once into the cache, and what their runs print.

`rdkafka_performance` (librdkafka's own tool) makes the plain produce and consume figures;
`bench_client` (bench_client.c beside this) makes round trips, lz4 and the mixed load.
Runs in: the benchmark process; each run of a client is a child process.
"""
from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.peers.cache import cached_directory
from tests.peers.processes import PeerUnavailableError

HERE = Path(__file__).parent
BUILD_TIMEOUT_SECONDS = 900
RUN_TIMEOUT_SECONDS = 300

_PRODUCED = re.compile(r"(\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms: (\d+) msgs/s and ([\d.]+) MB/s")
_CONSUMED = re.compile(r"% (\d+) messages \((\d+) bytes\) consumed in (\d+)ms: (\d+) msgs/s \(([\d.]+) MB/s\)")


class ClientError(Exception):
    """A client failed, lost records, or printed something else than its result."""


class Transfer(NamedTuple):
    records: int
    seconds: float
    records_per_second: float
    megabytes_per_second: float


class Span(NamedTuple):
    """A run of bench_client produce or consume; times are CLOCK_MONOTONIC nanoseconds."""

    records: int
    bytes: int
    start_ns: int
    end_ns: int


class Clients:
    """Paths of the built clients, and their runs."""

    def __init__(self, directory: Path) -> None:
        self._performance = str(directory / "rdkafka_performance")
        self._bench_client = str(directory / "bench_client")

    @classmethod
    def build(cls) -> Clients:
        """From the cache, or built there (a minute)."""
        script, source = HERE / "build_client.sh", HERE / "bench_client.c"
        recipe = script.read_text() + source.read_text()
        return cls(cached_directory("benchmark-client", recipe, lambda work: _build(script, work)))

    def produce(self, bootstrap: str, topic: str, arguments: Sequence[str]) -> Transfer:
        """rdkafka_performance -P; every record must have been acknowledged.

        Its exit code does not say that: a statistics event in its queue at the end makes it 1.
        """
        command = [self._performance, "-P", "-b", bootstrap, "-t", topic, *arguments]
        output = _finish(_start(command), exit_codes=(0, 1))
        wanted = arguments[arguments.index("-c") + 1]
        found = _last(_PRODUCED, output)
        if found is None or found[1] != wanted or int(found[2]):
            raise ClientError(f"producing to {topic} failed:\n{output[-3000:]}")
        return Transfer(int(found[1]), int(found[3]) / 1000, int(found[4]), float(found[5]))

    def consume(self, bootstrap: str, topic: str, arguments: Sequence[str]) -> Transfer:
        """rdkafka_performance -C, from the first record it received to the last."""
        output = _run([self._performance, "-C", "-b", bootstrap, "-t", topic, *arguments])
        found = _last(_CONSUMED, output)
        if found is None or not int(found[1]):
            raise ClientError(f"consuming {topic} failed:\n{output[-3000:]}")
        return Transfer(int(found[1]), int(found[3]) / 1000, int(found[4]), float(found[5]))

    def latencies(self, *arguments: str) -> dict[str, float]:
        """bench_client trips or rate: percentiles in microseconds."""
        return dict(json.loads(_run([self._bench_client, *arguments])))

    def spans(self, commands: Sequence[Sequence[str]]) -> list[Span]:
        """Several bench_client produce and consume commands at once."""
        running = [_start([self._bench_client, *arguments]) for arguments in commands]
        try:
            outputs = [_finish(process) for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        results = [json.loads(output) for output in outputs]
        return [Span(r["records"], r["bytes"], r["start_ns"], r["end_ns"]) for r in results]


def _last(pattern: re.Pattern[str], output: str) -> re.Match[str] | None:
    """The final result: lines of the same form are printed on the way."""
    matches = list(pattern.finditer(output))
    return matches[-1] if matches else None


def _build(script: Path, work: Path) -> None:
    result = subprocess.run(
        [str(script), str(work)], capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        raise PeerUnavailableError(f"the benchmark's client could not be built:\n{result.stderr[-3000:]}")


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    guarded = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    return subprocess.Popen(guarded, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str], exit_codes: Collection[int] = (0,)) -> str:
    try:
        output, _ = process.communicate(timeout=RUN_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise ClientError(f"{process.args!r} did not end:\n{process.communicate()[0][-3000:]}") from error
    if process.returncode not in exit_codes:
        raise ClientError(f"{process.args!r}: exit {process.returncode}\n{output[-3000:]}")
    return output


def _run(command: Sequence[str]) -> str:
    return _finish(_start(command))

"""Asks MessageOracle.java: Kafka's generated message classes, in one JVM for all questions of a run.

The JVM ends when its standard input closes, so it cannot outlive the test process.
"""
from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from tests.peers.kafka_jars import java_command

SOURCE = Path(__file__).with_name("MessageOracle.java")
COMPILE_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20


class MessageOracle:
    """A running JVM."""

    def __init__(self, libs: Path, work_dir: Path) -> None:
        """Compiles into `work_dir` and starts; what the JVM complains about goes to `oracle.err` there."""
        subprocess.run(
            [java_command("javac"), "-proc:none", "-cp", f"{libs}/*", "-d", str(work_dir), str(SOURCE)],
            check=True, timeout=COMPILE_TIMEOUT_SECONDS)
        self._error_path = work_dir / "oracle.err"
        with self._error_path.open("wb") as errors:
            self._process = subprocess.Popen(
                [java_command(), "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", f"{work_dir}:{libs}/*",
                 "MessageOracle"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8")

    def ask(self, questions: Sequence[str]) -> list[str]:
        """One answer per question: `ok ...` or `error ...` (see the Java file).

        A thread writes while this one reads, so that neither side of the pipes can block the other.
        """
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None and sink is not None

        def write() -> None:
            sink.writelines(question + "\n" for question in questions)
            sink.flush()

        writer = Thread(target=write, daemon=True)
        writer.start()
        answers = [source.readline().rstrip("\n") for _ in questions]
        if "" in answers:
            raise AssertionError(f"the JVM stopped answering:\n{self._error_path.read_text()[-4000:]}")
        writer.join()
        return answers

    def close(self) -> None:
        try:
            self._process.communicate(timeout=STOP_TIMEOUT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

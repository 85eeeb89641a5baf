"""Runs Kafka's own command line tools, above all DumpLogSegments, the independent reader of our files.

Runs in: the test process; each call is one JVM.
"""
from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.peers.kafka_jars import java_command

TOOL_TIMEOUT_SECONDS = 180

# What DumpLogSegments prints about a file that Kafka would not accept as it is.
_DUMP_COMPLAINTS = (
    "Found timestamp mismatch",
    "Found out of order timestamp",
    "Mismatches in",
    "Index sanity check failed",
    "isvalid: false",
    "Non-consecutive offsets",
    "Exception",
)


class JavaTools:
    """Classes of Kafka's jars, run by name."""

    def __init__(self, libs: Path) -> None:
        self._libs = libs

    def run(
        self,
        main_class: str,
        *arguments: str,
        input_text: str | None = None,
        timeout_seconds: float = TOOL_TIMEOUT_SECONDS,
        extra_classpath: Sequence[Path] = (),
        jvm_options: Sequence[str] = ("-Xmx256m",),
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Standard output and error as text; AssertionError with both when it fails and `check` is set."""
        classpath = ":".join([*map(str, extra_classpath), f"{self._libs}/*"])
        command = [java_command(), "-XX:TieredStopAtLevel=1", *jvm_options, "-cp", classpath, main_class]
        result = subprocess.run(
            [*command, *arguments],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and result.returncode != 0:
            outputs = f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
            raise AssertionError(f"{main_class} {' '.join(arguments)}: exit {result.returncode}\n{outputs}")
        return result

    def dump_log_segments(self, files: Sequence[Path], *options: str) -> str:
        """The text that Kafka's DumpLogSegments prints about log, index, snapshot files.

        What it has to complain about goes to standard error, behind everything else here.
        """
        names = ",".join(map(str, files))
        result = self.run("kafka.tools.DumpLogSegments", "--files", names, *options)
        errors = [line for line in result.stderr.splitlines() if not line.startswith("log4j:")]
        return "\n".join([result.stdout, *errors])

    def complaints_about_log(self, log_file: Path) -> list[str]:
        """Lines in which Kafka finds fault with a segment and those of its index files that exist.

        Records are walked deeply; indexes are compared with the log (a full pass, not the quick
        sanity check only).
        """
        suffixes = (".log", ".index", ".timeindex", ".txnindex")
        files = [path for path in (log_file.with_suffix(suffix) for suffix in suffixes) if path.exists()]
        return self.complaints_about_files(files, "--deep-iteration", "--print-data-log")

    def complaints_about_files(self, files: Sequence[Path], *options: str) -> list[str]:
        """Lines in which Kafka finds fault with any of these files, in one JVM."""
        lines = self.dump_log_segments(files, *options).splitlines()
        return [line for line in lines if any(complaint in line for complaint in _DUMP_COMPLAINTS)]

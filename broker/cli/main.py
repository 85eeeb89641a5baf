"""The command `ottla`: sub-commands, each in a module of its own, and nothing else.

A sub-command's module offers `add_parser(subparsers)` and sets `run`, a function of the parsed arguments that
gives the exit code. Whatever is heavy is imported by the sub-command when it runs, so that `ottla --help`
stays quick.

Runs in: the process that the operator starts; `ottla start` becomes the supervisor.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from broker.cli import metadata, start

_MODULES = (start, metadata)


class _VersionAction(argparse.Action):
    """Prints the installed version. Reading package metadata is slow, so only on demand."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            text = version("ottla")
        except PackageNotFoundError:
            text = "(run from its source tree, not installed)"
        print(f"ottla {text}")
        parser.exit(0)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ottla", description="A broker that takes the place of Apache Kafka 3.9, without a JVM."
    )
    parser.add_argument("--version", action=_VersionAction, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 refused or failed with an explanation on stderr, 2 wrong usage (argparse)."""
    parsed = build_parser().parse_args(arguments)
    code: int = parsed.run(parsed)
    return code


if __name__ == "__main__":
    raise SystemExit(main())

"""`ottla start`: checks a server.properties, then runs the node in the foreground until it is stopped.

Everything wrong with the configuration is printed at once, each fault with its key, its value, what is
allowed and what to do; passwords never. Standard output belongs to `ok`; all else goes to standard error.

Runs in: the process that becomes the supervisor.
"""
from __future__ import annotations

import argparse
import sys
from typing import Any

# Longer values are cut: a broken file may hold lines of any length.
_SHOWN_CHARACTERS_MAX = 200


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "start",
        help="run a broker in the foreground",
        description="Run a broker in the foreground with Kafka's server.properties.",
    )
    parser.add_argument("--check", action="store_true", help="only check the configuration; prints ok")
    parser.add_argument("properties", metavar="server.properties", help="the configuration file")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE",
        help="a setting stronger than the file's; may be given several times",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from broker.config import ConfigErrors, load_config

    try:
        config = load_config(arguments.properties, arguments.override)
    except ConfigErrors as errors:
        print(describe_errors(arguments.properties, errors), file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(f"ottla: warning: {_shown(warning)}", file=sys.stderr)
    if arguments.check:
        print("ok")
        return 0
    from broker.supervisor import run as run_supervisor

    return run_supervisor(config)


def describe_errors(path: str, errors: Any) -> str:
    """One paragraph per fault of a ConfigErrors."""
    count = len(errors.errors)
    lines = [f"ottla: cannot start with {_shown(path)}: {count} error{'s' if count > 1 else ''}"]
    for error in errors.errors:
        value = "" if error.value is None else f" = {_shown(error.value)}"
        lines += ["", f"{_shown(error.key)}{value}"]
        lines.append(f"  {'not served' if error.refused else 'allowed   '}: {_shown(error.allowed)}")
        lines.append(f"  what to do: {_shown(error.advice)}")
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Fit for a terminal: control characters as escapes, overlong text cut."""
    if len(text) > _SHOWN_CHARACTERS_MAX:
        text = text[:_SHOWN_CHARACTERS_MAX] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

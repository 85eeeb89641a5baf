"""The hook that lets a test stop or kill a process between any two stores to shared memory.

Runs in: every process; `hook` is None in production. Set it only in a forked test process.
A module-level name on purpose: the code under test must be the code that runs in production, so the
hook may not change any constructor or signature. The callable gets the name of the step just done.
"""
from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None


def after(step: str) -> None:
    """Call the hook, if one is set, with the name of the step that is now done."""
    if hook is not None:
        hook(step)

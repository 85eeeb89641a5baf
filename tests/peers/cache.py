"""The cache of things that are costly to fetch or build: jars, Go programs, the benchmark's client.

It lies outside the tree (`OTTLA_TEST_CACHE`, else `~/.cache/ottla-tests`), is shared by checkouts and
by test runs in parallel, and may be deleted at any time. An entry is a directory whose name ends in a
hash of everything that determines its content; it appears by one rename, so it is whole or absent.
Runs in: the test process.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    configured = os.environ.get("OTTLA_TEST_CACHE")
    root = Path(configured) if configured else Path.home() / ".cache" / "ottla-tests"
    root.mkdir(parents=True, exist_ok=True)
    return root


def cached_directory(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """The directory `name-hash(recipe)`, made by `build(empty directory)` if it is not there yet.

    One builder at a time per entry: others wait for it and use its result.
    """
    root = cache_root()
    entry = root / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with (root / f".{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not entry.exists():
            work = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=root))
            try:
                build(work)
                work.rename(entry)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return entry

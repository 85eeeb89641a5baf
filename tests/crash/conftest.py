"""Fixtures of the crash tests: a node of one's own on two directories."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.node import Node


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """make_node(**overrides of server.properties with _ for .) -> not started yet, log dirs a and b."""
    made: list[Node] = []

    def make(log_dirs: list[Path] | None = None, **overrides: Any) -> Node:
        keys = {name.replace("_", "."): str(value) for name, value in overrides.items()}
        made.append(Node(tmp_path, keys, log_dirs=log_dirs or [tmp_path / "a", tmp_path / "b"]))
        return made[-1]

    yield make
    for node in made:
        node.close()

"""Fixtures of the supervisor's tests."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.supervisor.driver import ToyNode


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., ToyNode]]:
    """Starts toy nodes that all end with the test."""
    nodes: list[ToyNode] = []

    def start(**options: Any) -> ToyNode:
        nodes.append(ToyNode(tmp_path, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()

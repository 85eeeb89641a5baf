"""The supervisor: forks, watches and restarts every process of a node; see ARCHITECTURE.md."""
from __future__ import annotations

from typing import Any


def run(config: Any) -> int:
    """Run a node with this KafkaConfig until it is stopped; returns the exit code of `ottla start`.

    Blocks; takes over SIGTERM, SIGINT and SIGHUP. Must be called from the only thread.
    """
    from broker.supervisor.node import run_node

    return run_node(config)

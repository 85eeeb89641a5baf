"""What the operator reads when the node is ready: what runs where.

Runs in: supervisor. PURE.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.supervisor.events import CONTROLLER, FRONT_END, ProcessId, storage


def start_lines(
    broker_id: int, cluster_id: str, listeners: Sequence[str], directories: Sequence[str],
    pids: Mapping[ProcessId, int],
) -> list[str]:
    """listeners: as `describe` of listening_sockets gives them; pids: of the processes that run."""
    lines = [f"Ottla is ready: broker {broker_id} of cluster {cluster_id}",
             f"  listening on {', '.join(listeners)}",
             f"  front end pid {pids[FRONT_END]}, controller {_pid(pids, CONTROLLER)}"]
    for index, directory in enumerate(directories):
        lines.append(f"  {directory}: storage {_pid(pids, storage(index))}")
    return lines


def _pid(pids: Mapping[ProcessId, int], process: ProcessId) -> str:
    return f"pid {pids[process]}" if process in pids else "not running"

"""Where Ottla answers otherwise than Kafka on purpose: the one list, a reason per row.

A row names steps and places in the answer by regular expressions (whole match). A difference that no row
explains fails its step; a row that explains nothing fails as well, so that the list never grows stale.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

CLOSED = "<closed>"


class Known(NamedTuple):
    """steps, path: whole-match patterns. ottla, kafka: the values, or ANY."""

    steps: str
    path: str
    reason: str


KNOWN: tuple[Known, ...] = ()


def reason_for(step: str, path: str) -> Known | None:
    """The first row that covers a difference."""
    for row in KNOWN:
        if re.fullmatch(row.steps, step) and re.fullmatch(row.path, path):
            return row
    return None


def describe(step: str, path: str, ottla: Any, kafka: Any) -> str:
    return f"{step}{path}: Ottla {_short(ottla)}, Kafka {_short(kafka)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "..."

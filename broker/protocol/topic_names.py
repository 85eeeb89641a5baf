"""Kafka's rule for topic names (behaviour 24). Pure."""

from __future__ import annotations

import re

TOPIC_NAME_LENGTH_MAX = 249
_LEGAL = re.compile(r"[a-zA-Z0-9._\-]{1,249}")


def is_valid_topic_name(name: str) -> bool:
    """1 to 249 of [a-zA-Z0-9._-], and neither `.` nor `..`."""
    return name not in (".", "..") and _LEGAL.fullmatch(name) is not None

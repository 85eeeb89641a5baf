"""One log line per event on stdout, in the shape Kafka's operators know.

Runs in: every process; called once at its start. The handler belongs to the root logger.
A line is written by one system call, so lines of several processes do not mix (pipes keep up to 4 KB whole).
"""
from __future__ import annotations

import logging
import sys

LEVEL_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}


def configure(process_name: str, level: int = logging.INFO) -> None:
    """Log to stdout as `[2026-01-01 00:00:00,000] INFO [process] message (logger)`.

    process_name: without percent signs.
    """
    for number, name in LEVEL_NAMES.items():
        logging.addLevelName(number, name)
    handler = logging.StreamHandler(sys.stdout)
    pattern = f"[%(asctime)s] %(levelname)s [{process_name}] %(message)s (%(name)s)"
    handler.setFormatter(logging.Formatter(pattern))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)

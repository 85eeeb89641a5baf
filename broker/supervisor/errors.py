"""Why a node cannot start.

Runs in: supervisor.
"""
from __future__ import annotations


class StartError(Exception):
    """The operator's to mend: printed as it is, without a stack trace; exit code 1."""

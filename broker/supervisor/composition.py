"""The composition root: which main runs in which process. The only module that sees all of them.

Runs in: supervisor. The imports stand inside the functions: `preload` makes them before the heap is frozen,
so that the children share the modules' memory and a restart imports nothing; a test replaces the whole
`Composition` by toy mains and imports none of them.
"""
from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from storage.ipc.contexts import ControllerContext, FrontEndContext, StorageContext


@dataclass(frozen=True)
class Composition:
    """Each main returns the exit code of its process."""

    front_end_main: Callable[[FrontEndContext], int]
    storage_main: Callable[[StorageContext], int]
    controller_main: Callable[[ControllerContext], int]
    helper_main: Callable[[socket.socket], int]
    preload: Callable[[], None]


def production() -> Composition:
    """The node as shipped."""
    return Composition(_front_end_main, _storage_main, _controller_main, _helper_main, _preload)


def _preload() -> None:
    import controller.main  # noqa: F401
    import storage.process.main  # noqa: F401

    import broker.front_end  # noqa: F401
    import storage.helpers.main  # noqa: F401


def _front_end_main(context: FrontEndContext) -> int:
    from broker.front_end import front_end_main

    return front_end_main(context)


def _storage_main(context: StorageContext) -> int:
    from storage.process.main import storage_main

    return storage_main(context)


def _controller_main(context: ControllerContext) -> int:
    from controller.main import controller_main

    return controller_main(context)


def _helper_main(sock: socket.socket) -> int:
    from storage.helpers.main import helper_main

    return helper_main(sock)

"""The composition root: which main runs in which process. The only module that sees all of them.

Runs in: supervisor. The imports stand inside the functions: `preload` makes them before the heap is frozen,
so that the children share the modules' memory and a restart imports nothing; a test replaces the whole
`Composition` by toy mains and imports none of them.
"""
from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from broker.config.kafka_config import KafkaConfig
from broker.protocol.api_keys import ApiKey
from storage.ipc.contexts import ControllerContext, FrontEndContext, StorageContext


@dataclass(frozen=True)
class Composition:
    """Each main returns the exit code of its process."""

    front_end_main: Callable[[FrontEndContext], int]
    storage_main: Callable[[StorageContext], int]
    controller_main: Callable[[ControllerContext], int]
    helper_main: Callable[[socket.socket], int]
    preload: Callable[[], None]


COMPILED_AHEAD = (
    (ApiKey.API_VERSIONS, 3),
    (ApiKey.METADATA, 4), (ApiKey.METADATA, 12),
    (ApiKey.LIST_OFFSETS, 7),
    (ApiKey.INIT_PRODUCER_ID, 4),
)  # fmt: skip
"""The first requests of today's clients: 5 ms at start, instead of 1 ms of each one's loop."""


def production() -> Composition:
    """The node as shipped."""
    return Composition(_front_end_main, _storage_main, _controller_main, _helper_main, _preload)


def _preload() -> None:
    import broker.front_end  # noqa: F401
    import controller.main  # noqa: F401
    import storage.helpers.main  # noqa: F401
    import storage.process.main  # noqa: F401
    from broker.protocol.codec import compile_ahead

    compile_ahead(COMPILED_AHEAD)


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


def copy_metadata(config: KafkaConfig, *, to_zookeeper: bool) -> tuple[bool, str]:
    """`ottla metadata copy`, in the process of the command: (done, what was done or why not)."""
    from controller import metadata_copy

    try:
        return True, metadata_copy.copy_metadata(config, to_zookeeper)
    except metadata_copy.REFUSALS as refusal:
        return False, str(refusal)

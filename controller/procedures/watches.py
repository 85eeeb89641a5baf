"""Which procedure follows from which fired watch (PURE).

Runs in: controller, while it leads.
"""
from __future__ import annotations

from controller import znodes
from controller.metadata_store.operations import EventType, WatchEvent
from controller.procedures.brokers import broker_modified, brokers_changed, directories_failed
from controller.procedures.runtime import Runtime
from controller.procedures.topic_deletion import deletions_changed
from controller.procedures.topics import topic_modified, topics_changed


async def cluster_changed(runtime: Runtime, event: WatchEvent) -> None:
    """Each procedure reads again with a watch before it acts, so no change between is lost."""
    parent, _, name = event.path.rpartition("/")
    if event.path == znodes.BROKER_IDS:
        await brokers_changed(runtime)
    elif event.path == znodes.TOPICS:
        await topics_changed(runtime)
    elif event.path == znodes.DELETE_TOPICS:
        await deletions_changed(runtime)
    elif event.path == znodes.LOG_DIR_EVENT_NOTIFICATION:
        await directories_failed(runtime)
    elif event.type is not EventType.NODE_DATA_CHANGED:
        return  # deletions are seen by the watch on the parent
    elif parent == znodes.BROKER_IDS:
        await broker_modified(runtime, int(name))
    elif parent == znodes.TOPICS:
        await topic_modified(runtime, name)

"""Answers as plain values, without what two brokers cannot have in common, and what is left of difference.

Lists of structures are sorted by what names each entry, because Kafka answers many of them in the order of a
hash table; the order of a Fetch answer has a meaning and is kept.
Runs in: the test process. No state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import Message

Plain = Any
ABSENT = "<absent>"
YEAR_2001_MS = 10**12

ORDERED = frozenset({ApiKey.FETCH})
NAMES = ("name", "topic", "api_key", "partition_index", "index", "partition", "resource_name", "log_dir",
         "node_id", "broker_id", "batch_index")  # fmt: skip

# Settings that are addresses, directories, or ours alone; everything else has to be equal.
OWN_SETTINGS = frozenset({
    "listeners", "advertised.listeners", "log.dirs", "zookeeper.connect", "ottla.metadata.path",
})  # fmt: skip


def plain(value: Any) -> Plain:
    """Messages as dicts, buffers as bytes."""
    if isinstance(value, Message):
        return {name: plain(getattr(value, name)) for name in value.ATTRIBUTES}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return bytes(value) if isinstance(value, memoryview) else value


class Mask:
    """Makes the answers of one broker comparable. topic_ids: id -> name; log_dirs: path -> a name."""

    def __init__(self, topic_ids: Mapping[bytes, str], log_dirs: Mapping[str, str]) -> None:
        self._topic_ids = topic_ids
        self._log_dirs = log_dirs
        self._fields: dict[str, Callable[[Any], Plain]] = {
            "topic_id": self._topic_id,
            "log_dir": lambda path: self._log_dirs.get(path, path),
            "host": lambda host: "<host>",
            "port": lambda port: "<port>",
            "cluster_id": lambda cluster_id: cluster_id and "<cluster id>",
            "session_id": lambda session_id: session_id and "<session>",
            "producer_id": lambda producer_id: producer_id if producer_id < 0 else "<producer id>",
            "log_append_time_ms": _time,
            "error_message": _sentence,
            "batch_index_error_message": _sentence,
            "records": _digest,
            "total_bytes": lambda size: size if size < 0 else "<bytes>",
            "usable_bytes": lambda size: size if size < 0 else "<bytes>",
        }

    def __call__(self, api_key: int, answer: Any) -> Plain:
        return self._masked(plain(answer), sort=api_key not in ORDERED)

    def _masked(self, value: Plain, sort: bool) -> Plain:
        if isinstance(value, list):
            entries = [self._masked(each, sort) for each in value]
            return sorted(entries, key=_place) if sort else entries
        if not isinstance(value, dict):
            return value
        masked = {
            name: self._fields[name](each) if name in self._fields else self._masked(each, sort)
            for name, each in value.items()
        }
        if masked.get("name") in OWN_SETTINGS and "config_source" in masked:
            masked["value"], masked["synonyms"] = "<own>", "<own>"
        return masked

    def _topic_id(self, topic_id: bytes) -> str:
        if topic_id == bytes(16):
            return "<none>"
        return self._topic_ids.get(topic_id, topic_id.hex())


def _time(milliseconds: int) -> Plain:
    return milliseconds if milliseconds < YEAR_2001_MS else "<now>"


def _sentence(text: str | None) -> Plain:
    """Ours are worded differently; whether there is one is compared."""
    return text and "<sentence>"


def _digest(records: bytes | None) -> Plain:
    if not records:
        return records
    return f"{len(records)} bytes, {hashlib.sha256(records).hexdigest()[:16]}"


def _place(entry: Plain) -> tuple[str, ...]:
    if isinstance(entry, dict):
        return tuple(f"{name}={entry[name]!s:>12}" for name in NAMES if name in entry)
    return (f"{entry!s:>12}",)


def differences(ottla: Plain, kafka: Plain, path: str = "") -> Iterator[tuple[str, Plain, Plain]]:
    """(path, Ottla's value, Kafka's value) of every difference, as deep as both have the same shape."""
    if isinstance(ottla, dict) and isinstance(kafka, dict):
        for name in dict.fromkeys([*kafka, *ottla]):
            yield from differences(ottla.get(name, ABSENT), kafka.get(name, ABSENT), f"{path}.{name}")
    elif isinstance(ottla, list) and isinstance(kafka, list) and ottla != kafka:
        yield from _list_differences(ottla, kafka, path)
    elif ottla != kafka:
        yield path, ottla, kafka


def _list_differences(ottla: list[Plain], kafka: list[Plain], path: str) -> Iterator[tuple[str, Plain, Plain]]:
    """By what names the entries, if that is unique and in the same order; else by position."""
    ours, theirs = list(map(_label, ottla)), list(map(_label, kafka))
    common = [label for label in theirs if label in ours]
    if len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs) and (
        common == [label for label in ours if label in theirs]
    ):
        by_label = dict(zip(ours, ottla, strict=True)), dict(zip(theirs, kafka, strict=True))
        for label in dict.fromkeys([*theirs, *ours]):
            yield from differences(
                by_label[0].get(label, ABSENT), by_label[1].get(label, ABSENT), f"{path}[{label}]"
            )
    elif len(ottla) == len(kafka):
        for index, (our, their) in enumerate(zip(ottla, kafka, strict=True)):
            yield from differences(our, their, f"{path}[{index}]")
    else:
        yield path, ottla, kafka


def _label(entry: Plain) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return "/".join(str(entry[name]) for name in NAMES if name in entry)

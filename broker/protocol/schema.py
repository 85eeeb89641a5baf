"""What a message looks like in each of its versions, read from the table in `messages.txt`.

The table holds one block per message, one indented line per field, in a notation of our own:

    Name kind[:api-key] versions flexible-versions [deprecated-versions]
     &Name versions            a structure that several fields of this message use
     name type versions ...    a field; its members, if it is a structure, are indented one further

After a field's versions may stand `?2+` (null is legal in these versions), `=-1` (default, where it is not
the natural one of the type), `#0@9+` (tagged field 0 in these versions), `~` (may be dropped silently where
the version lacks it), `*` (part of the key of its array; no effect on the wire) and `^none` (the versions in
which it is written compactly, where they differ from the message's flexible versions).
Versions are `3`, `2-5`, `4+` or `none`.

A block is parsed when its message is first used: a broker that never sees most messages never pays for
them. Runs in: every process. Parsed specifications are immutable.
"""
from __future__ import annotations

import re
from functools import cache
from pkgutil import get_data
from typing import NamedTuple

VERSION_MAX = (1 << 15) - 1
_SNAKE_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NATURAL_DEFAULTS: dict[str, object] = {
    "bool": False, "float64": 0.0, "string": "", "bytes": b"", "records": None, "uuid": bytes(16),
}


class Versions(NamedTuple):
    """An inclusive range; empty when lowest > highest."""

    lowest: int
    highest: int

    def has(self, version: int) -> bool:
        return self.lowest <= version <= self.highest


NO_VERSIONS = Versions(0, -1)


def parse_versions(text: str) -> Versions:
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return Versions(int(text[:-1]), VERSION_MAX)
    lowest, _, highest = text.partition("-")
    return Versions(int(lowest), int(highest or lowest))


class FieldSpec(NamedTuple):
    """One field. `type` is the element type when `is_array`; a structure's name begins with a capital."""

    name: str
    attribute: str
    type: str
    is_array: bool
    versions: Versions
    nullable: Versions = NO_VERSIONS
    default: object = None
    tag: int = -1
    tagged: Versions = NO_VERSIONS
    ignorable: bool = False
    map_key: bool = False
    flexible: Versions | None = None

    @property
    def is_struct(self) -> bool:
        return self.type[0].isupper()


class StructSpec(NamedTuple):
    name: str
    versions: Versions
    fields: list[FieldSpec]


class MessageSpec(NamedTuple):
    """A message: its root structure plus every structure inside it by Kafka's name."""

    name: str
    kind: str  # header, request, response or data
    api_key: int  # -1 for headers and data
    versions: Versions
    flexible: Versions
    deprecated: Versions
    root: StructSpec
    structs: dict[str, StructSpec]


def snake_case(name: str) -> str:
    return _SNAKE_BOUNDARY.sub("_", name).lower()


def _parse_default(type_name: str, text: str) -> object:
    if text == "null":
        return None
    if type_name == "bool":
        return text == "true"
    return text if type_name == "string" else int(text)


def _natural_default(type_name: str, is_array: bool) -> object:
    """Structures have no entry: their default is a structure of defaults, made by the class."""
    if is_array:
        return ()
    return _NATURAL_DEFAULTS.get(type_name, 0)


def _parse_field(words: list[str]) -> FieldSpec:
    name, type_name, versions, *rest = words
    is_array = type_name.startswith("[]")
    type_name = type_name.removeprefix("[]")
    options: dict[str, object] = {"default": _natural_default(type_name, is_array)}
    for word in rest:
        mark, value = word[0], word[1:]
        if mark == "?":
            options["nullable"] = parse_versions(value)
        elif mark == "=":
            options["default"] = _parse_default(type_name, value)
        elif mark == "#":
            tag, _, tagged = value.partition("@")
            options |= {"tag": int(tag), "tagged": parse_versions(tagged)}
        elif mark == "^":
            options["flexible"] = parse_versions(value)
        else:
            options[{"~": "ignorable", "*": "map_key"}[mark]] = True
    return FieldSpec(name, snake_case(name), type_name, is_array, parse_versions(versions),
                     **options)  # type: ignore[arg-type]


def parse_message(block: str) -> MessageSpec:
    """One block of the table. Members go to the structure named by the last line one level up."""
    head, *lines = block.splitlines()
    name, kind_and_key, versions, flexible, *deprecated = head.split()
    kind, _, key = kind_and_key.partition(":")
    root = StructSpec(name, parse_versions(versions), [])
    structs: dict[str, StructSpec] = {}
    open_structs = [root]  # the structure that a line of this depth belongs to
    for line in lines:
        words = line.split()
        depth = len(line) - len(line.lstrip())
        if words[0][0] == "&":
            structs[words[0][1:]] = StructSpec(words[0][1:], parse_versions(words[1]), [])
            open_structs[depth:] = [structs[words[0][1:]]]
            continue
        spec = _parse_field(words)
        open_structs[depth - 1].fields.append(spec)
        if spec.is_struct:
            struct = structs.setdefault(spec.type, StructSpec(spec.type, spec.versions, []))
            open_structs[depth:] = [struct]
    return MessageSpec(name, kind, int(key or -1), root.versions, parse_versions(flexible),
                       parse_versions(deprecated[0]) if deprecated else NO_VERSIONS, root, structs)


@cache
def _blocks() -> dict[str, str]:
    """Message name -> its lines of the table."""
    data = get_data("broker.protocol", "messages.txt")
    if data is None:
        raise RuntimeError("broker/protocol/messages.txt is missing from the installation")
    text = data.decode("ascii")
    blocks = (block for block in text.split("\n\n") if not block.startswith("#"))
    return {block[:block.index(" ")]: block.strip("\n") for block in blocks}


def message_names() -> list[str]:
    """Every message of the table, headers and data included, in the table's order."""
    return list(_blocks())


@cache
def message_spec(name: str) -> MessageSpec:
    """KeyError when there is no such message."""
    return parse_message(_blocks()[name])


@cache
def api_message_names() -> dict[tuple[str, int], str]:
    """(request or response, api key) -> message name, read from the first lines of the blocks alone."""
    names: dict[tuple[str, int], str] = {}
    for name, block in _blocks().items():
        kind, _, key = block.split(" ", 2)[1].partition(":")
        if key:
            names[kind, int(key)] = name
    return names

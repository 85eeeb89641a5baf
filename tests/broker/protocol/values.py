"""Random messages for tests: edge values of every type, null, long strings, unknown tagged fields.

One integer seed makes one message, so a failure is repeated from the seed alone.
"""
from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from broker.protocol.messages import Message, message_class
from broker.protocol.schema import FieldSpec, Versions, message_names

_INT_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_TEXTS = ("", "a", "topic-1", "größer", "日本", "\U0001f980", "x" * 126, "x" * 127, "y" * 300, "\0", "z" * 20000)
_DOUBLES = (0.0, -0.5, 1e300, 3.25, -2.0, 123456.789)
UNKNOWN_TAG_MIN = 40  # above every tag of the table


def all_messages_and_versions() -> list[tuple[str, int]]:
    """Every message of the table with each of its versions."""
    return [(name, version) for name in message_names() for version in versions_of(name)]


def versions_of(name: str) -> range:
    versions = message_class(name).MESSAGE.versions
    return range(versions.lowest, versions.highest + 1)


def struct_of(cls: type[Message], field: FieldSpec) -> Any:
    """The class of a field that is a structure or an array of them."""
    return getattr(message_class(cls.MESSAGE.name), field.type)


class MessageMaker:
    """Makes messages from a random source."""

    def __init__(self, random: Random, unknown_tags: bool = True) -> None:
        self._random = random
        self._unknown_tags = unknown_tags

    def make(self, cls: Any, version: int) -> Any:
        """A message or structure of this class that this version can carry."""
        values = {field.attribute: self._field(cls, field, version) for field in cls.STRUCT.fields
                  if field.versions.has(version) and self._random.random() < 0.75}
        if self._unknown_tags and cls.MESSAGE.flexible.has(version) and self._random.random() < 0.1:
            values["unknown_tagged_fields"] = self._tagged_fields()
        return cls(**values)

    def _tagged_fields(self) -> tuple[tuple[int, bytes], ...]:
        tags = self._random.sample((UNKNOWN_TAG_MIN, 127, 128, 20000, (1 << 31) - 2), self._random.randint(1, 3))
        return tuple((tag, self._bytes()) for tag in sorted(tags))

    def _field(self, cls: type[Message], field: FieldSpec, version: int) -> Any:
        if field.nullable.has(version) and self._random.random() < 0.2:
            return None
        if field.is_array:
            return [self._value(cls, field, version) for _ in range(self._array_size(field))]
        return self._value(cls, field, version)

    def _array_size(self, field: FieldSpec) -> int:
        if not field.is_struct and self._random.random() < 0.05:
            return 200  # a count of two bytes, as a varint
        return self._random.choice((0, 1, 1, 2, 3))

    def _value(self, cls: type[Message], field: FieldSpec, version: int) -> Any:
        random = self._random
        if field.is_struct:
            return self.make(struct_of(cls, field), version)
        if field.type in _INT_BITS:
            return self._integer(_INT_BITS[field.type])
        if field.type == "uint16":
            return random.choice((0, 1, 32768, 65535))
        if field.type == "bool":
            return random.random() < 0.5
        if field.type == "float64":
            return random.choice(_DOUBLES)
        if field.type == "uuid":
            return random.choice((bytes(16), random.randbytes(16)))
        if field.type == "string":
            return random.choice(_TEXTS[:-1]) if random.random() < 0.99 else _TEXTS[-1]
        return self._bytes()

    def _integer(self, bits: int) -> int:
        highest = (1 << bits - 1) - 1
        return self._random.choice((0, 1, -1, highest, -highest - 1, self._random.randint(-highest, highest)))

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 5, 127, 300)))


def random_message(name: str, version: int, seed: int, **options: Any) -> Any:
    """A message of this name that can be encoded in this version, from a seed."""
    return MessageMaker(Random(f"{name} {version} {seed}"), **options).make(message_class(name), version)


def unfit_messages(cls: Any, version: int) -> Iterator[tuple[Any, int]]:
    """Messages with exactly one thing that this version cannot carry, and a version that can.

    Either a field that the version lacks is set, or one is null that is nullable in other versions only.
    When nothing has both the field and the way to it, the second version is the first again.
    """
    for field in cls.STRUCT.fields:
        if not field.versions.has(version):
            yield cls(**{field.attribute: _other_value(cls, field)}), _fit_version(cls, field.versions)
        elif field.nullable.highest >= 0 and not field.nullable.has(version):
            yield cls(**{field.attribute: None}), _fit_version(cls, field.nullable)
        elif field.is_struct:
            for inner, fit_version in unfit_messages(struct_of(cls, field), version):
                fit = fit_version if field.versions.has(fit_version) else version
                yield cls(**{field.attribute: [inner] if field.is_array else inner}), fit


def _fit_version(cls: type[Message], versions: Versions) -> int:
    return min(versions.highest, cls.MESSAGE.versions.highest)


def _other_value(cls: type[Message], field: FieldSpec) -> Any:
    """Some value that is not the default."""
    if field.is_struct:
        inner = struct_of(cls, field)
        first = inner.STRUCT.fields[0]
        value = inner(**{first.attribute: _other_value(inner, first)})
    else:
        value = {"bool": field.default is not True, "string": "x", "bytes": b"x", "records": b"x",
                 "uuid": b"\1" * 16, "float64": 1.5}.get(field.type, 100)
    return [value] if field.is_array else value

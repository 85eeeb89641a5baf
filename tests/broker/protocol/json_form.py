"""A message as the JSON that Kafka's own converters read and write, for comparing with them.

Field names in camelCase; uuid as 22 characters of base64, bytes as plain base64, null as null; a tagged
field only where it differs from its default. Records are the exception: Kafka reads them but writes an
empty string in their place, so they can be left out by `records=False`.
"""
from __future__ import annotations

from base64 import b64encode
from typing import Any

from broker.protocol.messages import Message
from broker.protocol.primitives import uuid_to_text
from broker.protocol.schema import FieldSpec


def to_json(message: Message, version: int, records: bool = True) -> dict[str, Any]:
    """Every field that the version has, and those others that do not hold their default."""
    defaults = message.__class__()
    result = {}
    for field in message.STRUCT.fields:
        value = getattr(message, field.attribute)
        mandatory = field.versions.has(version) and not field.tagged.has(version)
        if mandatory or value != getattr(defaults, field.attribute):
            result[field.name[0].lower() + field.name[1:]] = _field(field, value, version, records)
    return result


def _field(field: FieldSpec, value: Any, version: int, records: bool) -> Any:
    if value is None:
        return None
    if field.is_array:
        return [_value(field, element, version, records) for element in value]
    return _value(field, value, version, records)


def _value(field: FieldSpec, value: Any, version: int, records: bool) -> Any:
    if field.is_struct:
        return to_json(value, version, records)
    if field.type == "uuid":
        return uuid_to_text(value)
    if field.type == "records" and not records:
        return ""
    if field.type in ("bytes", "records"):
        return b64encode(value).decode()
    return value

"""The table of messages: its notation, and properties that the compilers rely on."""
from __future__ import annotations

import pytest

from broker.protocol.schema import (
    NO_VERSIONS,
    VERSION_MAX,
    FieldSpec,
    StructSpec,
    Versions,
    api_message_names,
    message_names,
    message_spec,
    parse_message,
    parse_versions,
    snake_case,
)

ALL_STRUCTS = [(name, struct) for name in message_names()
               for struct in (message_spec(name).root, *message_spec(name).structs.values())]
ALL_FIELDS = [(name, field) for name, struct in ALL_STRUCTS for field in struct.fields]
FIXED_TYPES = {"bool", "int8", "int16", "uint16", "int32", "int64", "float64", "uuid"}
NULLABLE_TYPES = {"string", "bytes", "records"}


def test_the_notation() -> None:
    spec = parse_message(
        "ExampleRequest request:7 1-5 3+ 1-2\n"
        " &Shared 2+\n"
        "  Id int32 2+ *\n"
        " First []Inner 1+ ?2+ =null ~\n"
        "  Text string 1-4 =abc ^none\n"
        "  More Shared 2+\n"
        " Last int16 3+ #0@4+ =-1"
    )
    assert (spec.name, spec.kind, spec.api_key) == ("ExampleRequest", "request", 7)
    assert (spec.versions, spec.flexible, spec.deprecated) == (
        Versions(1, 5), Versions(3, VERSION_MAX), Versions(1, 2))
    first, last = spec.root.fields
    assert first == FieldSpec("First", "first", "Inner", True, Versions(1, VERSION_MAX),
                              nullable=Versions(2, VERSION_MAX), default=None, ignorable=True)
    assert (last.tag, last.tagged, last.default) == (0, Versions(4, VERSION_MAX), -1)
    text, more = spec.structs["Inner"].fields
    assert (text.default, text.flexible) == ("abc", NO_VERSIONS)
    assert more.is_struct and not more.is_array
    assert spec.structs["Shared"] == StructSpec("Shared", Versions(2, VERSION_MAX), [
        FieldSpec("Id", "id", "int32", False, Versions(2, VERSION_MAX), default=0, map_key=True)])


@pytest.mark.parametrize(("text", "versions"), [
    ("3", Versions(3, 3)), ("2-5", Versions(2, 5)), ("4+", Versions(4, VERSION_MAX)), ("none", NO_VERSIONS)])
def test_versions(text: str, versions: Versions) -> None:
    assert parse_versions(text) == versions


@pytest.mark.parametrize(("name", "attribute"), [
    ("ErrorCode", "error_code"), ("V3AndBelowTopics", "v3_and_below_topics"),
    ("IsKRaftController", "is_kraft_controller"), ("Isr", "isr")])
def test_attribute_names(name: str, attribute: str) -> None:
    assert snake_case(name) == attribute


def test_how_many_messages_there_are() -> None:
    kinds = [message_spec(name).kind for name in message_names()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "header": 2, "request": 62, "response": 62, "data": 10}
    assert len(api_message_names()) == 124


def test_every_field_type_is_known() -> None:
    for name, field in ALL_FIELDS:
        assert field.type in FIXED_TYPES | NULLABLE_TYPES or field.type in message_spec(name).structs


def test_attributes_are_unique_within_a_structure() -> None:
    for _, struct in ALL_STRUCTS:
        attributes = [field.attribute for field in struct.fields]
        assert len(set(attributes)) == len(attributes)


def test_only_what_has_a_length_or_is_a_structure_can_be_null() -> None:
    for _, field in ALL_FIELDS:
        if field.nullable != NO_VERSIONS:
            assert field.is_array or field.is_struct or field.type in NULLABLE_TYPES


def test_null_defaults_are_nullable() -> None:
    for _, field in ALL_FIELDS:
        if field.default is None and not field.is_struct and field.type != "records":
            assert field.nullable != NO_VERSIONS


def test_tags_are_contiguous_from_zero_and_lie_in_flexible_versions() -> None:
    for name, struct in ALL_STRUCTS:
        tagged = [field for field in struct.fields if field.tag >= 0]
        assert sorted(field.tag for field in tagged) == list(range(len(tagged)))
        for field in tagged:
            assert field.tagged.highest == VERSION_MAX
            assert field.tagged.lowest >= message_spec(name).flexible.lowest
            assert field.tagged.lowest >= field.versions.lowest


def test_no_tagged_structure_is_nullable() -> None:
    """Its encoding would differ from an untagged one; the compilers do not know it."""
    for _, field in ALL_FIELDS:
        assert not (field.tag >= 0 and field.is_struct and not field.is_array
                    and field.nullable != NO_VERSIONS)


def test_flexible_versions_are_open_ended() -> None:
    for name in message_names():
        assert message_spec(name).flexible.highest in (NO_VERSIONS.highest, VERSION_MAX)

"""Writes and compiles the encoding function of one structure in one version.

The function is straight-line Python, `encode(structures, put)`: it hands the bytes of the structures to
`put` piece by piece (a list's append; the pieces are joined once, so large byte strings are copied once).
Neighbouring fields of fixed width, and an int16 or int32 length that follows them, leave by one
`struct.Struct`.

Rules, as in Kafka's own serialiser: a field that the version lacks must hold its default unless it is
ignorable; a tagged field that holds its default is left out; unknown tagged fields go back where they came
from. Null in a field that is never null, and numbers out of range, are the caller's mistakes: TypeError and
struct.error.

Runs in: every process, on first use of a version. No state.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct, pack
from typing import Any, NoReturn

from broker.protocol.compile_decode import (
    FIXED_FORMATS,
    is_compact,
    struct_class,
    tagged_fields,
    untagged_fields,
)
from broker.protocol.errors import UnsupportedVersionError
from broker.protocol.messages import Message
from broker.protocol.primitives import STRING_SIZE_BYTES_MAX, encode_uvarint
from broker.protocol.schema import NO_VERSIONS, FieldSpec

Put = Callable[[Any], None]
Encoder = Callable[[Iterable[Any], Put], None]


def raise_absent(where: str, value: object) -> NoReturn:
    raise UnsupportedVersionError(f"{where} does not exist but holds {value!r}")


def raise_null(where: str) -> NoReturn:
    raise UnsupportedVersionError(f"{where} must not be null")


def raise_never_null(where: str) -> NoReturn:
    raise TypeError(f"{where} must not be None")


def raise_long_string(where: str, size: int) -> NoReturn:
    raise ValueError(f"{where} has {size} bytes, more than {STRING_SIZE_BYTES_MAX}")


def raise_uuid_size(where: str, size: int) -> NoReturn:
    raise ValueError(f"{where} has {size} bytes, a UUID has 16")


def raise_no_tags(where: str) -> NoReturn:
    raise UnsupportedVersionError(f"{where} has no tagged fields but some are set")


def put_tagged_fields(where: str, entries: list[tuple[int, Any]], put: Put) -> None:
    """The tagged section: entries in ascending order of tag, each tag once."""
    entries.sort(key=lambda entry: entry[0])
    put(encode_uvarint(len(entries)))
    previous_tag = -1
    for tag, data in entries:
        if tag == previous_tag:
            raise ValueError(f"{where}: tag {tag} is used twice")
        previous_tag = tag
        put(encode_uvarint(tag))
        put(encode_uvarint(len(data)))
        put(data)


def differs_source(field: FieldSpec, value: str) -> str:
    """Expression: the value is not the field's default. DEFAULT_name is a structure of defaults."""
    if field.default is None:
        return f"{value} is not None"
    if field.is_array or field.type in ("bytes", "records"):
        return f"{value} is None or len({value})"
    if field.is_struct:
        return f"{value} != DEFAULT_{field.attribute}"
    return f"{value} != {field.default!r}"


class _Writer:
    """Collects the source of one function. `run` holds the fixed-width values not yet written."""

    def __init__(self, cls: type[Message], version: int, indent: int) -> None:
        self.cls = cls
        self.version = version
        self.lines: list[str] = []
        self.indent = indent
        self.run: list[tuple[str, str]] = []
        self.names: dict[str, Any] = {
            "uvarint": encode_uvarint, "pack": pack, "put_tagged_fields": put_tagged_fields,
            "absent": raise_absent, "null": raise_null, "never_null": raise_never_null,
            "long_string": raise_long_string, "uuid_size": raise_uuid_size, "no_tags": raise_no_tags,
        }

    def put(self, text: str) -> None:
        self.lines.append(" " * self.indent + text)

    def flush(self) -> None:
        """Write everything in the run by one call."""
        if not self.run:
            return
        codes = [code for code, _ in self.run]
        name = "pack_" + "_".join(codes).replace("?", "t")
        self.names[name] = Struct(">" + "".join(codes)).pack
        self.put(f"put({name}({', '.join(value for _, value in self.run)}))")
        self.run.clear()

    def where(self, field: FieldSpec) -> str:
        return repr(f"{self.cls.__qualname__}.{field.name} in version {self.version}")

    def field(self, field: FieldSpec, source: str) -> None:
        if field.is_struct and not field.is_array:
            self._struct(field, source)
        elif field.is_array or field.type in ("string", "bytes", "records"):
            self._variable(field, source)
        else:
            if field.type == "uuid":
                self.put(f"if len({source}) != 16: uuid_size({self.where(field)}, len({source}))")
            self.run.append((FIXED_FORMATS[field.type], source))

    def _null_source(self, field: FieldSpec) -> str:
        """Statement for null where this version has none."""
        raiser = "never_null" if field.nullable == NO_VERSIONS else "null"
        return f"{raiser}({self.where(field)})"

    def _variable(self, field: FieldSpec, source: str) -> None:
        """A length, then content. The length joins the run unless it is a varint."""
        compact = is_compact(self.cls, field, self.version)
        code = "h" if field.type == "string" and not field.is_array else "i"
        self.put(f"v = {source}")
        if field.nullable.has(self.version):
            self.put(f"if v is None: n = -1; v = {'()' if field.is_array else repr(b'')}")
            self.put("else:")
            self.indent += 1
            self._measure(field)
            self.indent -= 1
        else:
            self.put(f"if v is None: {self._null_source(field)}")
            self._measure(field)
        if compact:
            self.flush()
            self.put("put(uvarint(n + 1))")
        else:
            self.run.append((code, "n"))
            self.flush()
        self._content(field)

    def _measure(self, field: FieldSpec) -> None:
        if field.type == "string" and not field.is_array:
            self.put("v = v.encode()")
            self.put("n = len(v)")
            self.put(f"if n > {STRING_SIZE_BYTES_MAX}: long_string({self.where(field)}, n)")
        else:
            self.put("n = len(v)")

    def _content(self, field: FieldSpec) -> None:
        if not field.is_array:
            self.put("put(v)")
        elif field.is_struct:
            self.names[f"encode_{field.type}"] = encoder(struct_class(self.cls, field.type), self.version)
            self.put(f"if v: encode_{field.type}(v, put)")
        elif field.type in ("string", "bytes", "uuid"):
            self.put("for element in v:")
            self.indent += 1
            self.field(field._replace(is_array=False, name=field.name + "[]", nullable=NO_VERSIONS),
                       "element")
            self.flush()
            self.indent -= 1
        else:
            self.put(f"put(pack(f'>{{len(v)}}{FIXED_FORMATS[field.type]}', *v))")

    def _struct(self, field: FieldSpec, source: str) -> None:
        self.names[f"encode_{field.type}"] = encoder(struct_class(self.cls, field.type), self.version)
        self.flush()
        if field.nullable.has(self.version):
            self.put(f"if {source} is None: put(b'\\xff')")
            self.put(f"else: put(b'\\x01'); encode_{field.type}(({source},), put)")
        else:
            self.put(f"if {source} is None: {self._null_source(field)}")
            self.put(f"encode_{field.type}(({source},), put)")

    def tagged_section(self, fields: list[FieldSpec]) -> None:
        """The last thing in a structure of a flexible version; nearly always the single byte 0."""
        where = repr(f"{self.cls.__qualname__} in version {self.version}")
        if not fields:
            self.put("if not m.unknown_tagged_fields: put(b'\\0')")
            self.put(f"else: put_tagged_fields({where}, list(m.unknown_tagged_fields), put)")
            return
        self.put("tags = list(m.unknown_tagged_fields)")
        self.put("outer_put = put")
        for field in fields:
            self.put(f"if {differs_source(field, 'm.' + field.attribute)}:")
            self.indent += 1
            self.put("pieces = []")
            self.put("put = pieces.append")
            self.field(field, "m." + field.attribute)
            self.flush()
            self.put(f"tags.append(({field.tag}, b''.join(pieces)))")
            self.indent -= 1
        self.put("put = outer_put")
        self.put("if not tags: put(b'\\0')")
        self.put(f"else: put_tagged_fields({where}, tags, put)")


def _body_source(writer: _Writer) -> None:
    cls, version = writer.cls, writer.version
    for field in cls.STRUCT.fields:
        if field.is_struct and not field.is_array and field.default is not None:
            writer.names[f"DEFAULT_{field.attribute}"] = struct_class(cls, field.type)()
        if not field.versions.has(version) and not field.ignorable:
            value = "m." + field.attribute
            writer.put(f"if {differs_source(field, value)}: absent({writer.where(field)}, {value})")
    for field in untagged_fields(cls.STRUCT, version):
        writer.field(field, "m." + field.attribute)
    writer.flush()
    if cls.MESSAGE.flexible.has(version):
        writer.tagged_section(tagged_fields(cls.STRUCT, version))
    else:
        where = repr(f"{cls.__qualname__} in version {version}")
        writer.put(f"if m.unknown_tagged_fields: no_tags({where})")


def encoder(cls: type[Message], version: int) -> Encoder:
    """The compiled function of a class for a version, made on first use."""
    found = cls.ENCODERS.get(version)
    if found is None:
        found = cls.ENCODERS[version] = _compile(cls, version)
    return found


def encoder_source(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    """Source of the function of one structure, and the names that it uses."""
    writer = _Writer(cls, version, 2)
    _body_source(writer)
    lines = ["def encode(structures, put):", " for m in structures:", *writer.lines]
    return "\n".join(lines), writer.names


def _compile(cls: type[Message], version: int) -> Encoder:
    source, namespace = encoder_source(cls, version)
    exec(compile(source, f"<encode {cls.__qualname__} version {version}>", "exec"), namespace)
    return namespace["encode"]  # type: ignore[no-any-return]

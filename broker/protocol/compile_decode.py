"""Writes and compiles the decoding function of one structure in one version.

The function is straight-line Python, `decode(buffer, position, end, count) -> (structures, position)`: it
reads `count` structures one after the other, so an array costs one call, not one per element. Neighbouring
fields of fixed width, and the length that follows them, are read by one `struct.Struct`; a varint length is
read as one byte and only longer ones take the slow path. What the wire can get wrong is checked in place:
counts against the bytes that remain, ends against the buffer's end, null against the schema. Reading beyond
the buffer raises struct.error or IndexError, bad UTF-8 UnicodeDecodeError: `codec.decode` maps them.

Runs in: every process, on first use of a version. No state.
"""
from __future__ import annotations

from collections.abc import Callable
from struct import Struct, unpack_from
from typing import Any, NoReturn

from broker.protocol.errors import MalformedError
from broker.protocol.messages import Message, default_source, message_class
from broker.protocol.primitives import STRING_SIZE_BYTES_MAX, decode_uvarint
from broker.protocol.schema import FieldSpec, StructSpec

Decoder = Callable[[Any, int, int, int], tuple[list[Any], int]]

FIXED_FORMATS = {
    "bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d",
    "uuid": "16s",
}
_TOO_SHORT = "ends beyond the message"


def fixed_size(type_name: str) -> int:
    return Struct(">" + FIXED_FORMATS[type_name]).size


def is_compact(cls: type[Message], field: FieldSpec, version: int) -> bool:
    """Whether lengths of this field are varints in this version."""
    flexible = cls.MESSAGE.flexible if field.flexible is None else field.flexible
    return flexible.has(version)


def untagged_fields(struct: StructSpec, version: int) -> list[FieldSpec]:
    """Fields written in order in this version."""
    return [field for field in struct.fields
            if field.versions.has(version) and not field.tagged.has(version)]


def tagged_fields(struct: StructSpec, version: int) -> list[FieldSpec]:
    """Fields carried in the tagged section in this version, by tag."""
    fields = [field for field in struct.fields if field.tagged.has(version)]
    return sorted(fields, key=lambda field: field.tag)


def minimum_size(cls: type[Message], version: int) -> int:
    """Bytes that the smallest structure of this class takes: what a count is checked against."""
    size = 1 if cls.MESSAGE.flexible.has(version) else 0
    for field in untagged_fields(cls.STRUCT, version):
        if field.is_array or field.type in ("string", "bytes", "records"):
            size += 1 if is_compact(cls, field, version) else 2 if field.type == "string" else 4
        elif not field.is_struct:
            size += fixed_size(field.type)
        elif field.nullable.has(version):
            size += 1
        else:
            size += minimum_size(struct_class(cls, field.type), version)
    return size


def struct_class(cls: type[Message], name: str) -> type[Message]:
    """A structure's class by name, seen from any class of the same message."""
    return getattr(message_class(cls.MESSAGE.name), name)  # type: ignore[no-any-return]


def raise_null(where: str) -> NoReturn:
    raise MalformedError(f"{where} is null but must not be")


def raise_short(where: str, size: int, left: int) -> NoReturn:
    raise MalformedError(f"{where} needs {size} bytes but {left} are left")


def raise_long_string(where: str, size: int) -> NoReturn:
    raise MalformedError(f"{where} has {size} bytes, more than {STRING_SIZE_BYTES_MAX}")


def raise_tag_order(where: str, tag: int, previous_tag: int) -> NoReturn:
    raise MalformedError(f"{where}: tag {tag} after tag {previous_tag}")


def raise_tag_size(where: str, size: int, used: int) -> NoReturn:
    raise MalformedError(f"{where}: the tagged field announces {size} bytes but has {used}")


class _Writer:
    """Collects the source of one function. `run` holds the fixed-width values not yet read."""

    def __init__(self, cls: type[Message], version: int, indent: int) -> None:
        self.cls = cls
        self.version = version
        self.lines: list[str] = []
        self.indent = indent
        self.run: list[tuple[str, str]] = []
        self.names: dict[str, Any] = {
            "new": cls.__new__, "C": cls, "uvarint": decode_uvarint, "unpack_from": unpack_from,
            "null": raise_null, "short": raise_short, "long_string": raise_long_string,
            "tag_order": raise_tag_order, "tag_size": raise_tag_size,
        }

    def put(self, text: str, deeper: int = 0) -> None:
        self.lines.append(" " * (self.indent + deeper) + text)

    def flush(self) -> None:
        """Read everything in the run by one call."""
        if not self.run:
            return
        packed = Struct(">" + "".join(code for code, _ in self.run))
        name = "unpack_" + "_".join(code for code, _ in self.run).replace("?", "t")
        self.names[name] = packed.unpack_from
        self.put(", ".join(target for _, target in self.run) + f", = {name}(buffer, position)")
        self.put(f"position += {packed.size}")
        self.run.clear()

    def read_length(self, code: str) -> None:
        """Read n: a length, a count or a mark for null. "B" stands for a varint (still one too high)."""
        self.run.append((code, "n"))
        self.flush()
        if code == "B":
            self.put("if n > 127: n, position = uvarint(buffer, position - 1)")

    def field(self, field: FieldSpec, target: str) -> None:
        if field.is_array:
            self._array(field, target)
        elif field.type == "string":
            self._string(field, target, field.nullable.has(self.version))
        elif field.type in ("bytes", "records"):
            self._bytes(field, target)
        elif field.is_struct:
            self._struct(field, target)
        else:
            self.run.append((FIXED_FORMATS[field.type], target))

    def _where(self, field: FieldSpec) -> str:
        return repr(f"{self.cls.__qualname__}.{field.name} in version {self.version}")

    def _open_length(self, field: FieldSpec, code: str, target: str, nullable: bool) -> int:
        """Read a length and leave n as size; opens an else branch after null. Returns the added indent."""
        compact = is_compact(self.cls, field, self.version)
        self.read_length("B" if compact else code)
        self.put(f"if n {'== 0' if compact else '< 0'}: "
                 + (f"{target} = None" if nullable else f"null({self._where(field)})"))
        self.put("else:")
        if compact:
            self.put("n -= 1", 1)
        return 1

    def _string(self, field: FieldSpec, target: str, nullable: bool) -> None:
        deeper = self._open_length(field, "h", target, nullable)
        if is_compact(self.cls, field, self.version):
            self.put(f"if n > {STRING_SIZE_BYTES_MAX}: long_string({self._where(field)}, n)", deeper)
        self._slice(field, "str(buffer[position:stop], 'utf-8') if n else ''", target, deeper)

    def _bytes(self, field: FieldSpec, target: str) -> None:
        deeper = self._open_length(field, "i", target, field.nullable.has(self.version))
        self._slice(field, "buffer[position:stop]", target, deeper)

    def _slice(self, field: FieldSpec, source: str, target: str, deeper: int) -> None:
        self.put("stop = position + n", deeper)
        self.put(f"if stop > end: short({self._where(field)}, n, end - position)", deeper)
        self.put(f"{target} = {source}", deeper)
        self.put("position = stop", deeper)

    def _struct(self, field: FieldSpec, target: str) -> None:
        inner = struct_class(self.cls, field.type)
        self.names[f"decode_{field.type}"] = decoder(inner, self.version)
        read = f"({target},), position = decode_{field.type}(buffer, position, end, 1)"
        if not field.nullable.has(self.version):
            self.flush()
            self.put(read)
            return
        self.read_length("b")
        self.put(f"if n < 0: {target} = None")
        self.put("else: " + read)

    def _array(self, field: FieldSpec, target: str) -> None:
        deeper = self._open_length(field, "i", target, field.nullable.has(self.version))
        element_size = self._element_size(field)
        self.put(f"if n * {element_size} > end - position: "
                 f"short({self._where(field)}, n * {element_size}, end - position)", deeper)
        self.indent += deeper
        if field.is_struct:
            inner = struct_class(self.cls, field.type)
            self.names[f"decode_{field.type}"] = decoder(inner, self.version)
            self.put(f"{target}, position = decode_{field.type}(buffer, position, end, n)")
        elif field.type in ("string", "bytes"):
            self._variable_elements(field, target)
        else:
            self._fixed_elements(field, target, element_size)
        self.indent -= deeper

    def _element_size(self, field: FieldSpec) -> int:
        """At least this many bytes per element. A structure without bytes would let a count of any size
        through; the table has none (a test sees to it)."""
        if field.is_struct:
            return max(1, minimum_size(struct_class(self.cls, field.type), self.version))
        if field.type in FIXED_FORMATS:
            return fixed_size(field.type)
        return 1 if is_compact(self.cls, field, self.version) else 2

    def _fixed_elements(self, field: FieldSpec, target: str, element_size: int) -> None:
        code = FIXED_FORMATS[field.type]
        source = (f"unpack_from(f'>{{n}}{code}', buffer, position)" if field.type != "uuid" else
                  "(bytes(buffer[at:at + 16]) for at in range(position, position + 16 * n, 16))")
        self.put(f"{target} = list({source})")
        self.put(f"position += {element_size} * n")

    def _variable_elements(self, field: FieldSpec, target: str) -> None:
        self.put("elements = []")
        self.put("for _ in range(n):")
        self.indent += 1
        element = field._replace(is_array=False, name=field.name + "[]")
        if field.type == "string":
            self._string(element, "element", nullable=False)
        else:
            self._bytes(element, "element")
        self.put("elements.append(element)")
        self.indent -= 1
        self.put(f"{target} = elements")


def _tags_source(writer: _Writer, fields: list[FieldSpec]) -> None:
    """`read_tags(m, buffer, position, end, count)`: known tags into their fields, others kept as bytes."""
    where = repr(f"{writer.cls.__qualname__} in version {writer.version}")
    writer.indent = 1
    for line in (
        "previous_tag = -1",
        "unknown = []",
        "for _ in range(count):",
        " tag, position = uvarint(buffer, position)",
        f" if tag <= previous_tag: tag_order({where}, tag, previous_tag)",
        " previous_tag = tag",
        " size, position = uvarint(buffer, position)",
        " start, limit = position, position + size",
        f" if limit > end: short({where}, size, end - position)",
    ):
        writer.put(line)
    for field in fields:
        writer.put(f" if tag == {field.tag}:")
        writer.indent += 2
        writer.field(field, "m." + field.attribute)
        writer.flush()
        writer.put(f"if position != limit: tag_size({where}, size, position - start)")
        writer.put("continue")
        writer.indent -= 2
    writer.put(" unknown.append((tag, bytes(buffer[position:limit])))")
    writer.put(" position = limit")
    writer.put("m.unknown_tagged_fields = tuple(unknown)")
    writer.put("return position")


def _body_source(writer: _Writer) -> None:
    cls, version = writer.cls, writer.version
    for field in cls.STRUCT.fields:
        if not field.versions.has(version) or field.tagged.has(version):
            writer.put(f"m.{field.attribute} = {default_source(field)}")
            if field.is_struct and not field.is_array:
                writer.names[field.type] = struct_class(cls, field.type)
    writer.put("m.unknown_tagged_fields = ()")
    for field in untagged_fields(cls.STRUCT, version):
        writer.field(field, "m." + field.attribute)
    if cls.MESSAGE.flexible.has(version):
        writer.read_length("B")
        writer.put("if n: position = read_tags(m, buffer, position, end, n)")
    writer.flush()


def decoder(cls: type[Message], version: int) -> Decoder:
    """The compiled function of a class for a version, made on first use."""
    found = cls.DECODERS.get(version)
    if found is None:
        found = cls.DECODERS[version] = _compile(cls, version)
    return found


def decoder_source(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    """Source of the functions of one structure, and the names that they use."""
    body = _Writer(cls, version, 2)
    _body_source(body)
    lines = ["def decode(buffer, position, end, count):", " structures = []", " for _ in range(count):",
             "  m = new(C)", *body.lines, "  structures.append(m)", " return structures, position"]
    if cls.MESSAGE.flexible.has(version):
        tags = _Writer(cls, version, 1)
        _tags_source(tags, tagged_fields(cls.STRUCT, version))
        lines += ["def read_tags(m, buffer, position, end, count):", *tags.lines]
        body.names.update(tags.names)
    return "\n".join(lines), body.names


def _compile(cls: type[Message], version: int) -> Decoder:
    source, namespace = decoder_source(cls, version)
    exec(compile(source, f"<decode {cls.__qualname__} version {version}>", "exec"), namespace)
    return namespace["decode"]  # type: ignore[no-any-return]

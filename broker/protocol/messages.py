"""Message classes made from the table on first use.

`message_class("MetadataRequest")` gives a class with one slot per field (snake_case), a keyword constructor
with Kafka's defaults, equality and a repr; the structures inside it are attributes of the class under their
Kafka names (`M.MetadataRequestTopic(...)`). Plain slots and no validation: values are checked by `struct`
and by the codec when a message is encoded.

Attribute types: bool, int, float, str, bytes (memoryview slices after decoding from a memoryview), uuid as
16 bytes, lists, structures, None where Kafka has null. `unknown_tagged_fields` keeps what a newer peer sent,
as ((tag, bytes), ...) in ascending order.

Runs in: every process. Classes are made once per process and never change.
"""
from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from broker.protocol.schema import FieldSpec, MessageSpec, StructSpec, api_message_names, message_spec


class Message:
    """Base of every message and structure.

    MESSAGE is the specification of the whole message, STRUCT of this structure. DECODERS and ENCODERS hold
    the compiled functions per version; they belong to the two compile modules.
    """

    __slots__ = ("unknown_tagged_fields",)
    unknown_tagged_fields: tuple[tuple[int, bytes], ...]

    MESSAGE: ClassVar[MessageSpec]
    STRUCT: ClassVar[StructSpec]
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ()
    DECODERS: ClassVar[dict[int, Any]]
    ENCODERS: ClassVar[dict[int, Any]]

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.ATTRIBUTES)

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.ATTRIBUTES
                           if name != "unknown_tagged_fields" or self.unknown_tagged_fields)
        return f"{self.__class__.__name__}({values})"


def default_source(field: FieldSpec) -> str:
    """The default of a field as an expression; a structure is made anew, named as in the class's module."""
    if field.default is None:
        return "None"
    if field.is_array:
        return "[]"
    if field.is_struct:
        return f"{field.type}()"
    return repr(field.default)


def _constructor_source(struct: StructSpec) -> str:
    """Keyword-only; a mutable default is made inside, so the parameter's own default is a mark."""
    parameters, body = [], []
    for field in struct.fields:
        source = default_source(field)
        name = field.attribute
        fresh = source.endswith(("()", "[]"))
        parameters.append(f"{name}={'_FRESH' if fresh else source}")
        body.append(f" self.{name} = " + (f"{source} if {name} is _FRESH else {name}" if fresh else name))
    parameters.append("unknown_tagged_fields=()")
    body.append(" self.unknown_tagged_fields = unknown_tagged_fields")
    return f"def __init__(self, *, {', '.join(parameters)}):\n" + "\n".join(body)


def _make_class(message: MessageSpec, struct: StructSpec, namespace: dict[str, Any]) -> type[Message]:
    source = _constructor_source(struct)
    code = compile(source, f"<{message.name}: constructor of {struct.name}>", "exec")
    functions: dict[str, Any] = {}
    exec(code, namespace, functions)
    names = tuple(field.attribute for field in struct.fields)
    return type(struct.name, (Message,), {
        "__slots__": names,
        "__module__": __name__,
        "__qualname__": struct.name if struct is message.root else f"{message.name}.{struct.name}",
        "__init__": functions["__init__"],
        "MESSAGE": message,
        "STRUCT": struct,
        "ATTRIBUTES": (*names, "unknown_tagged_fields"),
        "DECODERS": {},
        "ENCODERS": {},
    })


@cache
def message_class(name: str) -> Any:
    """The class of a message by Kafka's name ("FetchRequest", "OffsetCommitKey"). KeyError if unknown."""
    message = message_spec(name)
    namespace: dict[str, Any] = {"_FRESH": object()}
    for struct in (*message.structs.values(), message.root):
        namespace[struct.name] = _make_class(message, struct, namespace)
    root = namespace[message.root.name]
    for struct_name in message.structs:
        setattr(root, struct_name, namespace[struct_name])
    return root


def request_class(api_key: int) -> Any:
    """KeyError for an API that a ZooKeeper-mode broker does not have."""
    return message_class(api_message_names()["request", api_key])


def response_class(api_key: int) -> Any:
    """KeyError for an API that a ZooKeeper-mode broker does not have."""
    return message_class(api_message_names()["response", api_key])

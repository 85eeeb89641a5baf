"""Java's properties syntax, exactly as `java.util.Properties.load` reads a server.properties.

A file that works with Kafka must mean the same here, corner cases included, so this follows what Java does
rather than what its documentation promises: bytes are ISO-8859-1; the first unescaped `=`, `:` or blank ends
the key; an odd number of backslashes at the end continues the line; a comment cannot be continued, but a
continuation whose line is still empty may turn out to be a comment; the later of two equal keys wins.

PURE. Runs in: supervisor, at start.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK = " \t\f"
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_HEX_4 = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "f": "\f"}


class PropertiesSyntaxError(ValueError):
    """A `\\u` that is not followed by four hexadecimal digits. line_number counts from 1."""

    def __init__(self, line_number: int) -> None:
        super().__init__(line_number)
        self.line_number = line_number


def parse_properties(data: bytes) -> dict[str, str]:
    """The entries in the order in which their keys first appear; a later value replaces an earlier one."""
    properties: dict[str, str] = {}
    for line_number, line in _logical_lines(data.decode("iso-8859-1")):
        key, value = _split_entry(line)
        try:
            properties[_unescape(key)] = _unescape(value)
        except ValueError:
            raise PropertiesSyntaxError(line_number) from None
    return properties


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, text) of each entry: comments and blanks gone, continuations joined."""
    joined = ""
    first_number = 0
    for number, match in enumerate(_LINE.finditer(text), start=1):
        line = match[1].lstrip(_BLANK)
        if not joined:
            first_number = number
            if line[:1] in ("#", "!"):
                continue
        joined += line
        if _ends_in_open_backslash(joined):
            joined = joined[:-1]
            # Java looks for the end of the file before it skips the \n of a \r\n: hence the difference.
            if match.end() < len(text) or match[2] == "\r\n":
                continue
            yield first_number, joined
        elif joined:
            yield first_number, joined
        joined = ""


def _ends_in_open_backslash(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split_entry(line: str) -> tuple[str, str]:
    """Key and value, still escaped. `a = b`, `a:b`, `a b` and a lone `a` are all entries."""
    key_end = _key_end(line)
    value = line[key_end:].lstrip(_BLANK)
    if value[:1] in ("=", ":"):
        value = value[1:].lstrip(_BLANK)
    return line[:key_end], value


def _key_end(line: str) -> int:
    escaped = False
    for position, char in enumerate(line):
        if not escaped and (char in "=:" or char in _BLANK):
            return position
        escaped = char == "\\" and not escaped
    return len(line)


def _unescape(text: str) -> str:
    """Raises ValueError for a broken `\\u`. A backslash before any other character is dropped."""
    if "\\" not in text:
        return text
    parts: list[str] = []
    position = 0
    while (found := text.find("\\", position)) >= 0 and found + 1 < len(text):
        parts.append(text[position:found])
        char = text[found + 1]
        position = found + 2
        if char == "u":
            digits = text[position : position + 4]
            if not _HEX_4.fullmatch(digits):
                raise ValueError(digits)
            parts.append(chr(int(digits, 16)))
            position += 4
        else:
            parts.append(_ESCAPES.get(char, char))
    parts.append(text[position:])
    return _join_surrogates("".join(parts))


def _join_surrogates(text: str) -> str:
    """Java keeps UTF-16 units, so two `\\u` escapes may be the halves of one character."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text

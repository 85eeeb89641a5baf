"""Java's properties text, as much as meta.properties needs: read any, write Kafka's.

Runs in: supervisor, storage. No state, no files. Rules of java.util.Properties: ISO 8859-1 bytes; comments
begin with # or !; a backslash at the end continues the line; `=`, `:` or white space separates; \\uXXXX.
"""
from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator

_LINE_END = re.compile(r"\r\n|\r|\n")
_WHITE_SPACE = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|u|.)", re.DOTALL)
_TO_ESCAPE = re.compile(r"[\\=:#!\t\n\r\f]")
_ESCAPED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}
# Java's Date.toString is English whatever the locale; strftime's names are not.
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_properties(data: bytes) -> dict[str, str]:
    """Later keys win. Raises ValueError for a broken \\u escape, as Java does."""
    properties = {}
    for line in _logical_lines(data.decode("iso-8859-1")):
        key, value = _split_key(line)
        properties[_unescape(key)] = _unescape(value)
    return properties


def encode_properties(entries: Iterable[tuple[str, str]], now_ms: int) -> bytes:
    """As Properties.store with an empty comment: an empty comment line, the date, the entries as given."""
    lines = ["#", "#" + _java_date(now_ms)]
    for key, value in entries:
        escaped_value = _escape(value)
        leading = len(escaped_value) - len(escaped_value.lstrip(" "))
        if leading:
            escaped_value = "\\ " + escaped_value[1:]
        lines.append(f"{_escape(key).replace(' ', chr(92) + ' ')}={escaped_value}")
    return ("\n".join(lines) + "\n").encode("ascii")


def _logical_lines(text: str) -> Iterator[str]:
    """Comments and blank lines gone, continued lines joined (their leading white space is dropped)."""
    pending: str | None = None
    for raw in _LINE_END.split(text):
        line = raw.lstrip(_WHITE_SPACE)
        if pending is None and (not line or line[0] in "#!"):
            continue
        whole = (pending or "") + line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending = whole[:-1]
            continue
        pending = None
        yield whole
    if pending:
        yield pending


def _split_key(line: str) -> tuple[str, str]:
    index = 0
    while index < len(line) and line[index] not in "=:" + _WHITE_SPACE:
        index += 2 if line[index] == "\\" else 1
    key, rest = line[:index], line[index:].lstrip(_WHITE_SPACE)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_WHITE_SPACE)
    return key, rest


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        sequence = match.group(1)
        if sequence == "u":
            raise ValueError("malformed \\uXXXX escape")
        if sequence[0] == "u":
            return chr(int(sequence[1:], 16))
        return _ESCAPES.get(sequence, sequence)

    return _ESCAPE.sub(replace, text)


def _escape(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: _ESCAPED.get(match.group(), "\\" + match.group()), text)


def _java_date(now_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(now_ms // 1000, tz=datetime.UTC)
    return (f"{_WEEKDAYS[moment.weekday()]} {_MONTHS[moment.month - 1]} {moment.day:02d} "
            f"{moment:%H:%M:%S} UTC {moment.year}")

"""The frame that Kafka's checkpoint files share: version line, count line, one entry per line.

Runs in: storage. No state. Source of the rules: Kafka's CheckpointFile; kept are its leniencies too (a file
without a count line is empty; any run of white space separates fields, though a line must not begin with
one) because a directory may come from a Kafka that crashed between creating and filling the file.
Text without a checksum: whatever does not fit these rules is reported with the line, never guessed at.
"""
from __future__ import annotations

import re
from collections.abc import Iterable

from storage.errors import CorruptLogError
from storage.fs import FileLayer

CHECKPOINT_VERSION = 0
# 200,000 partitions with names of 249 characters stay below; a bigger file is not a checkpoint.
CHECKPOINT_SIZE_BYTES_MAX = 64 << 20
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

_LINE_END = re.compile(r"\r\n|\r|\n")
_WHITE_SPACE = re.compile(r"[ \t\n\x0b\f\r]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")


def encode_checkpoint(lines: Iterable[str]) -> bytes:
    entries = list(lines)
    return "\n".join([str(CHECKPOINT_VERSION), str(len(entries)), *entries, ""]).encode()


def decode_checkpoint(path: str, data: bytes, field_count: int) -> list[list[str]]:
    """The fields of every entry. Raises CorruptLogError naming the byte where the bad line begins."""
    lines = split_lines(path, data)
    if not lines:
        return []
    version = parse_number(path, *lines[0], INT32_MIN, INT32_MAX)
    if version != CHECKPOINT_VERSION:
        raise CorruptLogError(path, 0, f"checkpoint version {version}, only {CHECKPOINT_VERSION} is known")
    if len(lines) == 1:
        return []
    expected_count = parse_number(path, *lines[1], INT32_MIN, INT32_MAX)
    entries = []
    for position, line in lines[2:]:
        fields = split_fields(line)
        if len(fields) != field_count:
            raise CorruptLogError(path, position, f"malformed line {line[:200]!r}")
        entries.append(fields)
    if len(entries) != expected_count:
        raise CorruptLogError(path, lines[1][0],
                              f"{expected_count} entries announced, {len(entries)} found")
    return entries


def split_lines(path: str, data: bytes) -> list[tuple[int, str]]:
    """(byte position, line) as Java's BufferedReader sees them; positions are exact for ASCII text."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CorruptLogError(path, error.start, "not UTF-8 text") from error
    lines = []
    start = 0
    for match in _LINE_END.finditer(text):
        lines.append((start, text[start:match.start()]))
        start = match.end()
    if start < len(text):
        lines.append((start, text[start:]))
    return lines


def split_fields(line: str) -> list[str]:
    """Java's split: leading white space gives an empty first field, trailing white space gives nothing."""
    fields = _WHITE_SPACE.split(line)
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return fields


def parse_number(path: str, position: int, text: str, minimum: int, maximum: int) -> int:
    if _NUMBER.fullmatch(text):
        value = int(text)
        if minimum <= value <= maximum:
            return value
    raise CorruptLogError(path, position, f"{text[:200]!r} is not a number in [{minimum}, {maximum}]")


def read_text_file(files: FileLayer, path: str, size_bytes_max: int) -> bytes | None:
    """None if the file does not exist; CorruptLogError if it is too big to be what its name says."""
    status = files.status(path)
    if status is None:
        return None
    if status.size_bytes > size_bytes_max:
        raise CorruptLogError(path, size_bytes_max, f"{status.size_bytes} bytes long")
    return files.read_file(path, size_bytes_max)

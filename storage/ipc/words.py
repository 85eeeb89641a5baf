"""One shared 8-byte word.

Runs in: all processes; each word has exactly one writer, named in layout.py.
Only the cast view stores and loads a word in one piece: `struct.pack_into` clears its target first, and
another process saw that zero in a fifth of its reads.
"""
from __future__ import annotations

from storage.ipc.layout import WORD_SIZE_BYTES


class Word:
    """Word at a byte position of a region's word view. Two loads are never a pair."""

    __slots__ = ("_words", "_index")

    def __init__(self, words: memoryview, position: int) -> None:
        """words: a view of format 'Q'; position: in bytes, a multiple of 8."""
        if words.format != "Q" or position % WORD_SIZE_BYTES:
            raise ValueError(f"word at byte {position} of a view of format {words.format!r}")
        self._words = words
        self._index = position // WORD_SIZE_BYTES

    def load(self) -> int:
        """Value that some store wrote, whole."""
        value: int = self._words[self._index]
        return value

    def store(self, value: int) -> None:
        """0 <= value < 2**64."""
        self._words[self._index] = value

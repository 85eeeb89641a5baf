"""Every transcript here says what the group coordinator does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.transcript import Script

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


def replay(text: str) -> str:
    """The same text with what really follows from each line."""
    script, written = Script(), []
    for line in text.splitlines():
        if line.startswith(">"):
            written += [line, *(f"  {outcome}" for outcome in script.run(line.removeprefix(">").strip()))]
        elif not line.startswith(" "):
            written.append(line)
    return "\n".join(written) + "\n"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_transcript(path: Path) -> None:
    text = path.read_text()
    assert replay(text) == text

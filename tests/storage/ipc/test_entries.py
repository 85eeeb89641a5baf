"""Entries: names and places agree with the map."""
from __future__ import annotations

import pytest

from storage.ipc import entries
from storage.ipc.entries import Completion, CompletionKind, Submission, SubmissionKind
from storage.ipc.layout import COMPLETION_FIELDS, SUBMISSION_FIELDS


@pytest.mark.parametrize(
    ("fields", "named", "prefix"),
    [(SUBMISSION_FIELDS, Submission, "S_"), (COMPLETION_FIELDS, Completion, "C_")],
)
def test_names_and_indices_follow_the_map(fields: object, named: type, prefix: str) -> None:
    names = tuple(name for name, _ in fields if name)  # type: ignore[attr-defined]
    assert named._fields == names
    assert [getattr(entries, prefix + name.upper()) for name in names] == list(range(len(names)))


def test_an_answer_has_the_kind_of_its_question() -> None:
    answers = {kind.name: kind.value for kind in CompletionKind if kind < entries.FIRST_UNASKED_KIND}
    questions = {kind.name: kind.value for kind in SubmissionKind if kind is not SubmissionKind.CREDIT}
    assert answers == questions


def test_unasked_kinds_are_told_by_their_number() -> None:
    unasked = {kind for kind in CompletionKind if kind.name not in SubmissionKind.__members__}
    assert unasked == {kind for kind in CompletionKind if kind >= entries.FIRST_UNASKED_KIND}

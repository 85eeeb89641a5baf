"""Position marks: exact answers near the log end, bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.replica.marks import MARKS_MAX, LogPosition, PositionMarks


def test_the_newest_mark_is_the_log_end() -> None:
    marks = PositionMarks(LogPosition(0, 0, 0))
    marks.advance(LogPosition(5, 0, 700))
    assert marks.log_end == LogPosition(5, 0, 700)
    assert marks.exact(5) == LogPosition(5, 0, 700)
    assert marks.exact(0) == LogPosition(0, 0, 0)
    assert marks.exact(3) is None


def test_a_roll_at_the_same_offset_replaces_the_mark() -> None:
    marks = PositionMarks(LogPosition(0, 0, 0))
    marks.advance(LogPosition(5, 0, 700))
    marks.advance(LogPosition(5, 5, 0))
    assert marks.exact(5) == LogPosition(5, 5, 0)


def test_reset_forgets_everything_older() -> None:
    marks = PositionMarks(LogPosition(0, 0, 0))
    marks.advance(LogPosition(5, 0, 700))
    marks.reset(LogPosition(3, 0, 300))
    assert marks.exact(5) is None
    assert marks.log_end.offset == 3


def test_a_change_of_names_leaves_only_the_marks_of_the_newest_segment() -> None:
    """A compacted segment has other positions under the same name."""
    marks = PositionMarks(LogPosition(0, 0, 0))
    for offset, base, position in ((5, 0, 700), (9, 0, 900), (12, 9, 100)):
        marks.advance(LogPosition(offset, base, position))
    marks.forget_other_segments()
    assert [marks.exact(offset) for offset in (0, 5, 9)] == [None, None, None]
    assert marks.log_end == marks.exact(12) == LogPosition(12, 9, 100)


@given(st.lists(st.integers(1, 50), max_size=400))
def test_marks_are_bounded_exact_and_end_with_the_newest(steps: list[int]) -> None:
    marks = PositionMarks(LogPosition(0, 0, 0))
    given_marks = {0: LogPosition(0, 0, 0)}
    offset = 0
    for step in steps:
        offset += step
        given_marks[offset] = LogPosition(offset, 0, offset * 100)
        marks.advance(given_marks[offset])
    assert marks.log_end == given_marks[offset]
    kept = [found for found in map(marks.exact, range(offset + 1)) if found is not None]
    assert len(kept) <= MARKS_MAX
    assert all(given_marks[found.offset] == found for found in kept)

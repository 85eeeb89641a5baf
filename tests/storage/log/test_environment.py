from __future__ import annotations

from pathlib import Path

from storage.fs import OS_FILES
from storage.log.environment import UNLINKS_PER_CALL_MAX, DelayedDeletes, LogEnvironment, OpenLogs


class Clock:
    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def test_files_are_removed_when_due_in_order_of_time(tmp_path: Path) -> None:
    clock = Clock()
    deletes = DelayedDeletes(OS_FILES, clock)
    for name, delay in (("late", 20), ("soon", 10)):
        (tmp_path / name).touch()
        deletes.add([str(tmp_path / name)], delay)
    assert deletes.next_due_ms == 10
    assert deletes.run() == 0
    clock.now_ms = 10
    assert deletes.run() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["late"]
    assert (len(deletes), deletes.next_due_ms) == (1, 20)


def test_one_call_removes_a_bounded_number(tmp_path: Path) -> None:
    deletes = DelayedDeletes(OS_FILES, Clock())
    paths = [tmp_path / str(index) for index in range(UNLINKS_PER_CALL_MAX + 5)]
    for path in paths:
        path.touch()
    deletes.add(map(str, paths), 0)
    assert deletes.run() == UNLINKS_PER_CALL_MAX
    assert deletes.run() == 5


def test_a_file_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    deletes = DelayedDeletes(OS_FILES, Clock())
    deletes.add([str(tmp_path / "gone")], 0)
    deletes.add([str(tmp_path / "gone-directory")], 0, directories=True)
    assert deletes.run() == 0
    assert len(deletes) == 0


def test_the_files_of_a_deleted_directory_go_with_it(tmp_path: Path) -> None:
    deletes = DelayedDeletes(OS_FILES, Clock())
    deletes.add([f"{tmp_path}/a/x.deleted", f"{tmp_path}/ab/x.deleted"], 5)
    deletes.forget_below(f"{tmp_path}/a")
    assert len(deletes) == 1


class Log:
    def __init__(self, *, recently_used: bool = False) -> None:
        self.recently_used = recently_used
        self.closed = 0

    def close_files(self) -> None:
        self.closed += 1


def test_the_longest_open_log_is_closed_unless_it_was_used_since() -> None:
    open_logs = OpenLogs(2)
    used, idle, new = Log(recently_used=True), Log(), Log()
    for log in (used, idle, new):
        open_logs.note_open(log)
    assert (used.closed, idle.closed, new.closed) == (0, 1, 0)
    assert not used.recently_used
    open_logs.note_open(idle)
    assert (used.closed, idle.closed, new.closed) == (0, 1, 1)
    assert len(open_logs) == 2


def test_jitter_is_drawn_below_both_bounds() -> None:
    environment = LogEnvironment(OS_FILES, now_ms=Clock(), monotonic_ms=Clock(),
                                 random_below=lambda bound: bound - 1)
    assert environment.jitter_ms(0, 1000) == 0
    assert environment.jitter_ms(300, 1000) == 299
    assert environment.jitter_ms(5000, 1000) == 999

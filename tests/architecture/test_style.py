"""Style that a machine can check: docstrings, sizes, banned calls, purity, the file map."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.sources import PACKAGES, ROOT, Source, sources

MODULE_LINES_MAX = 700
FUNCTION_LINES_MAX = 70
NOT_IN_PURE_MODULES = {"trio", "os", "socket", "time", "threading", "random", "logging"}

# Module -> why it may call what others may not.
MAY_OPEN_FILES = {
    "storage.fs.layer": "the file layer",
    "storage.reader.file_pool": "read-only descriptors for the front end",
}
MAY_READ_THE_WALL_CLOCK = re.compile(
    r"storage\.process\.main|broker\.front_end|controller\.|broker\.supervisor\."
)


def parametrised(only: Iterator[Source] | None = None) -> pytest.MarkDecorator:
    chosen = tuple(only) if only is not None else sources()
    return pytest.mark.parametrize("source", chosen, ids=[source.module for source in chosen])


@parametrised()
def test_every_module_says_what_it_is(source: Source) -> None:
    if source.path.endswith("__init__.py") and not source.text.strip():
        return
    assert source.docstring, f"{source.path} has no docstring"


@parametrised(source for source in sources() if not source.path.endswith("__init__.py"))
def test_every_module_says_where_it_runs(source: Source) -> None:
    """Ownership is written down: "Runs in: ...", or PURE for what has no process and no state."""
    assert re.search(r"\bRuns in\b|\bPURE\b|\bPure\b", source.docstring), source.path


@parametrised()
def test_modules_stay_readable_in_one_sitting(source: Source) -> None:
    lines = source.text.count("\n")
    assert lines <= MODULE_LINES_MAX, f"{source.path} has {lines} lines: split it by concept"


@parametrised()
def test_functions_stay_short(source: Source) -> None:
    too_long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not too_long, f"{source.path}: {too_long}"


@parametrised(source for source in sources() if re.search(r"\bPURE\b|\bPure\b", source.docstring))
def test_pure_modules_ask_nobody_for_time_chance_or_files(source: Source) -> None:
    if not re.search(r"(\bPURE\.|\bPure\.|\(PURE\)|^PURE|\bPURE:)", source.docstring, re.MULTILINE):
        return  # the word stands for something else ("pure but for ...")
    assert not source.imported_modules() & NOT_IN_PURE_MODULES, source.path


def calls(source: Source) -> Iterator[tuple[str, int]]:
    """Dotted names of everything that is called, with the line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


@parametrised(source for source in sources() if source.module.startswith("storage."))
def test_storage_opens_files_in_one_place(source: Source) -> None:
    if source.module in MAY_OPEN_FILES:
        return
    opened = [line for name, line in calls(source) if name in ("open", "os.open", "io.open")]
    assert not opened, f"{source.path} opens files at lines {opened}: use storage.fs"


@parametrised()
def test_the_wall_clock_is_read_where_it_is_handed_out(source: Source) -> None:
    if MAY_READ_THE_WALL_CLOCK.match(source.module):
        return
    read = [line for name, line in calls(source) if name in ("time.time", "time.time_ns", "datetime.now")]
    assert not read, f"{source.path} reads the wall clock at lines {read}: take it as an argument"


@parametrised()
def test_no_error_is_swallowed(source: Source) -> None:
    swallowed = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            broad = node.type is None or ast.unparse(node.type) in ("OSError", "Exception", "BaseException")
            if silent and broad:
                swallowed.append(node.lineno)
    assert not swallowed, f"{source.path}: lines {swallowed}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_file_maps_list_every_module(package: str) -> None:
    """Each module is named in the ARCHITECTURE.md of its folder, or of a folder above."""
    missing = []
    for source in sources():
        folder, _, name = source.path.rpartition("/")
        if not source.path.startswith(package + "/") or name == "__init__.py":
            continue
        pages = []
        while folder:
            page = ROOT / folder / "ARCHITECTURE.md"
            if page.exists():
                pages.append(page.read_text())
            folder = folder.rpartition("/")[0]
        if not any(re.search(rf"\b{re.escape(name)}\b", page) for page in pages):
            missing.append(source.path)
    assert not missing, f"not in any file map: {missing}"


def test_nothing_names_this_machine() -> None:
    """No path of a workplace in what is shipped."""
    named = [
        source.path for source in sources() if re.search(r"/work/|/tmp/peers|/root/", source.text)
    ]
    assert not named

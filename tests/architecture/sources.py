"""The Python sources of the three packages, parsed once for the tests of this folder."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("broker", "storage", "controller")


@dataclass(frozen=True)
class Source:
    """path: relative to the checkout, with slashes. module: dotted name."""

    path: str
    module: str
    text: str
    tree: ast.Module

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""

    def imported_modules(self) -> set[str]:
        """Top-level names of what is imported anywhere but under TYPE_CHECKING."""
        found: set[str] = set()
        for node in _walk_without_type_checking(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
        return found


def _walk_without_type_checking(node: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        nodes.append(child)
        nodes += _walk_without_type_checking(child)
    return nodes


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT).as_posix()
            text = path.read_text()
            module = relative.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            found.append(Source(relative, module, text, ast.parse(text)))
    return tuple(found)

"""The project's files as data: parsed modules, what they import under which name, what they call.

Rules in this folder are functions from a ``Module`` to complaints, so each can be shown a bad sample (its canary)
as well as the real tree.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKIPPED_DIRS = {".git", ".venv", "__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache", "build"}


@dataclass(frozen=True, eq=False)
class Module:
    """One Python file: its path inside the repository and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def sample(cls, path: str, text: str) -> "Module":
        """A module that exists only here, to prove that a rule bites."""
        return cls(path, text, ast.parse(text))

    @property
    def unit(self) -> str:
        """The package or module directly under gatewayfs/ this file belongs to."""
        return self.path.removeprefix("gatewayfs/").split("/")[0].removesuffix(".py")

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported dotted name with its line, wherever in the file; ``from a import b`` is "a.b"."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: relative import"
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno

    def used_names(self) -> Iterator[tuple[str, int]]:
        """Every name the code uses, dotted and with import aliases undone: ``t.time`` after ``import time as t``."""
        aliases: dict[str, str | None] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                aliases |= {
                    alias.asname or alias.name.split(".")[0]: alias.asname and alias.name for alias in node.names
                }
            elif isinstance(node, ast.ImportFrom):
                aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and (dotted := dotted_name(node)):
                head, _, rest = dotted.partition(".")
                head = aliases.get(head) or head
                yield (f"{head}.{rest}" if rest else head), node.lineno


def dotted_name(node: ast.AST) -> str:
    """``a.b.c`` for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted_name(node.value)):
        return f"{base}.{node.attr}"
    return ""


@cache
def files(*suffixes: str, under: str = "") -> tuple[str, ...]:
    """Paths inside the repository of our own files with one of the suffixes, sorted."""
    start = ROOT / under
    found = (path.relative_to(ROOT) for path in start.rglob("*") if path.suffix in suffixes and path.is_file())
    return tuple(sorted(str(path) for path in found if not SKIPPED_DIRS.intersection(path.parts)))


@cache
def modules(under: str) -> tuple[Module, ...]:
    """Every Python file under a top directory."""
    return tuple(Module.sample(path, (ROOT / path).read_text()) for path in files(".py", under=under))

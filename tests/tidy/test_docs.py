"""The documents tell what the code does: promises and dependencies (options: tests/unit/config/test_documented.py)."""

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest

from tests.tidy.sources import ROOT, Module, dotted_name, modules

ANCHOR = re.compile(r'<a id="([^"]+)">')
TABLE_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
TEST_NAME = re.compile(r"`(test_\w+)`")
DEPENDENCY_ROW = re.compile(r"^\|\s*\[?`([A-Za-z0-9_.-]+)`", re.MULTILINE)


def document(path: str) -> str:
    if not (ROOT / path).exists():
        pytest.skip(f"{path} is not written yet")
    return (ROOT / path).read_text()


def named_clauses(module: Module) -> Iterator[str]:
    """Anchors in ``pytest.mark.semantics("a", "b")``, as a decorator or in a ``pytestmark``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and dotted_name(node.func) == "pytest.mark.semantics":
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def test_every_clause_of_the_semantics_has_a_test_and_every_named_clause_exists() -> None:
    anchors = ANCHOR.findall(document("docs/semantics.md"))
    assert anchors, "docs/semantics.md promises nothing"
    assert sorted(set(anchors)) == sorted(anchors), "an anchor stands twice"
    named = {clause for module in modules("tests") for clause in named_clauses(module)}
    assert {"clauses without a test": sorted(set(anchors) - named)} == {"clauses without a test": []}
    assert {"tests of no clause": sorted(named - set(anchors))} == {"tests of no clause": []}


def test_every_test_that_a_row_of_the_semantics_names_exists() -> None:
    named = {name for row in TABLE_ROW.findall(document("docs/semantics.md")) for name in TEST_NAME.findall(row)}
    written = {
        node.name
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert named, "the table of odd buckets names no test"
    assert named - written == set()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    declared = {re.split(r"[\[<>=]", requirement)[0] for requirement in required}
    explained = set(DEPENDENCY_ROW.findall(document("docs/dependencies.md")))
    assert declared - explained == set()


def test_clauses_named_by_tests_are_found() -> None:
    sample = Module.sample("tests/x.py", "@pytest.mark.semantics('a', 'b')\ndef test(): ...")
    assert list(named_clauses(sample)) == ["a", "b"]

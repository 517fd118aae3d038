"""docs/cli.md names every verb, every option and every exit status, and nothing else."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from gatewayfs.cli import exitcodes
from gatewayfs.cli.main import VERBS, main

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
SHARE_OPTIONS = {"--config", "--cache-dir", "--endpoint-url", "--set"}
"""Explained once, with mount."""


def section(verb: str) -> str:
    found = re.search(rf"^### {verb}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, verb
    return found[1]


def test_every_verb_is_documented_in_the_order_of_the_help() -> None:
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_documented_and_every_documented_one_exists(verb: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([verb, "--help"]) == 0
    options = set(re.findall(r"(?<!\S)--[a-z-]+", printed.getvalue().split("options:")[1].split("examples:")[0]))
    documented = set(re.findall(r"--[a-z-]+", section(verb)))
    optional = SHARE_OPTIONS if verb != "mount" else set()
    assert documented - optional <= options
    assert options - documented - {"--help"} <= optional


def test_every_exit_status_is_documented_with_its_meaning() -> None:
    rows = {int(status): meaning for status, meaning in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)}
    assert rows == exitcodes.MEANINGS


def test_the_lower_floors_use_the_same_numbers() -> None:
    from gatewayfs.config.load import USAGE_EXIT_CODE
    from gatewayfs.control.client import NOT_RUNNING_EXIT_CODE

    assert (USAGE_EXIT_CODE, NOT_RUNNING_EXIT_CODE) == (exitcodes.USAGE, exitcodes.NOT_RUNNING)

"""docs/configuration.md and the option table say the same."""

import re
from pathlib import Path

from gatewayfs.config import options

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"

DERIVED = {"share.name", "cache.directory", "mount.allow_other"}
"""Defaults that depend on other options or on who runs us; the page explains them in words."""


def documented() -> dict[str, str]:
    """Text below each ``### section.option`` heading."""
    chunks = re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)
    return {
        chunk.split("\n", 1)[0]: chunk.split("\n", 1)[1]
        for chunk in chunks
        if re.match(r"[a-z0-9_]+\.[a-z_]+\n", chunk)
    }


def test_every_option_is_documented_and_every_documented_option_exists() -> None:
    assert list(documented()) == [option.name for option in options()]


def test_the_page_gives_the_real_default_and_kind_of_every_option() -> None:
    page = documented()
    for option in options():
        text = page[option.name]
        assert f"Kind: {option.kind.word}" in text, option.name
        if option.name in DERIVED:
            assert not text.startswith("Default: none"), option.name
        elif option.required:
            assert text.startswith("Default: none, required."), option.name
        elif option.default_text == "":
            assert text.startswith("Default: none"), option.name
        else:
            assert text.startswith(f"Default: `{option.default_text}`."), option.name


def test_the_page_names_every_choice() -> None:
    page = documented()
    for option in options():
        for choice in option.choices:
            assert f"`{choice}`" in page[option.name], f"{option.name}: {choice}"

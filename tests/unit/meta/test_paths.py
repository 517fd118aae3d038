"""Names against keys: what may be called what, and which keys a path can lead to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import BadName, InvalidArgument, NameTooLong
from gatewayfs.meta.paths import Unlistable, check_key_length, checked_name, split_listed_key


@pytest.mark.parametrize("name", [b"a", b"...", b"..a", b"\x01\n\t\x7f", "ä€😀".encode(), b"x" * 255, b" ", b"a\\b"])
def test_what_can_be_a_key_is_a_name(name: bytes) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_what_the_kernel_never_asks_for_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidArgument):
        checked_name(name)


def test_256_bytes_are_too_long() -> None:
    with pytest.raises(NameTooLong):
        checked_name(b"x" * 256)


@pytest.mark.parametrize("name", [b"\xff", b"a\xc3", b"\xed\xa0\x80"])
def test_names_that_are_not_utf8_are_refused(name: bytes) -> None:
    with pytest.raises(BadName):
        checked_name(name)


def test_a_key_may_have_1024_bytes_and_no_more() -> None:
    check_key_length("p/", 1000, b"x" * 22, is_directory=False)
    check_key_length("p/", 1000, b"x" * 21, is_directory=True)
    check_key_length("ä/", 500, b"x" * 20, 500, is_directory=True)
    with pytest.raises(NameTooLong):
        check_key_length("p/", 1000, b"x" * 23, is_directory=False)
    with pytest.raises(NameTooLong):
        check_key_length("p/", 1000, b"x" * 22, is_directory=True)
    with pytest.raises(NameTooLong):
        check_key_length("p/", 0, b"x" * 100, 950, is_directory=True)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("", []),
        ("a", [b"a"]),
        ("a/", [b"a"]),
        ("a/b", [b"a", b"b"]),
        ("ä/\n/c/", ["ä".encode(), b"\n", b"c"]),
        ("...", [b"..."]),
    ],
)
def test_a_listed_key_is_split(key: str, names: list[bytes]) -> None:
    assert split_listed_key(key) == names


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("/", Unlistable.EMPTY_NAME),
        ("//", Unlistable.EMPTY_NAME),
        ("/a", Unlistable.EMPTY_NAME),
        ("a//b", Unlistable.EMPTY_NAME),
        ("a//", Unlistable.EMPTY_NAME),
        ("./a", Unlistable.DOT_NAME),
        ("a/..", Unlistable.DOT_NAME),
        ("a/../", Unlistable.DOT_NAME),
        ("a\0b", Unlistable.NUL),
        ("x" * 256, Unlistable.NAME_TOO_LONG),
        ("\ud800", Unlistable.NOT_ENCODABLE),
    ],
)
def test_a_key_no_path_can_hold_says_why(key: str, reason: Unlistable) -> None:
    assert split_listed_key(key) is reason


@given(st.text())
def test_a_split_key_is_found_again_by_its_names(key: str) -> None:
    names = split_listed_key(key)
    if isinstance(names, list):
        assert all(checked_name(name) == name for name in names)
        assert b"/".join(names).decode() == key.removesuffix("/")

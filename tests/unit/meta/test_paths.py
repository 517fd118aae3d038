"""Names against keys: what may be called what, and which keys a path can lead to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import BadName, InvalidArgument, NameTooLong
from gatewayfs.meta.paths import checked_name
from gatewayfs.refresh.diff import name_of


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


@given(
    st.text(st.characters(), max_size=90)
    | st.sampled_from(["", ".", "..", "a/b", "\0", "\ud800", "x" * 255, "x" * 256])
)
def test_what_the_bucket_shows_is_what_a_program_may_ask_for(text: str) -> None:
    name = name_of(text)
    if name is not None:
        assert checked_name(name).decode() == text
    else:
        with pytest.raises((InvalidArgument, NameTooLong, BadName)):
            checked_name(text.encode(errors="surrogatepass"))

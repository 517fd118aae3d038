"""Failpoints: armed by name and count, hit once, refused when misspelt."""

import errno
from collections.abc import Iterator

import pytest

from gatewayfs.errors import UserError
from gatewayfs.runtime.failpoints import arm, failpoint, register, unknown_names

HERE = "test.step.before"


@pytest.fixture(autouse=True)
def disarmed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Others hold the program's real list against its documents: a point of ours must not stay in it.
    monkeypatch.setattr("gatewayfs.runtime.failpoints.FAILPOINTS", {})
    register(HERE, "nothing")
    arm("")
    yield
    arm("")


def test_unarmed_nothing_happens() -> None:
    failpoint(HERE)


def test_it_hits_at_the_nth_time_and_only_then() -> None:
    arm(f"{HERE}:3=error")
    failpoint(HERE)
    failpoint(HERE)
    with pytest.raises(OSError) as caught:
        failpoint(HERE)
    assert caught.value.errno == errno.EIO
    failpoint(HERE)


def test_full_is_a_full_disk() -> None:
    arm(f" {HERE}=full , other.place.after=kill")
    with pytest.raises(OSError) as caught:
        failpoint(HERE)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("wrong", ["a", "a=explode", "a:0=kill", "a:x=kill", "a.b.after=error"])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(UserError):
        arm(wrong)


def test_names_nobody_registered_are_told() -> None:
    arm(f"{HERE}=kill,no.such.place=kill")
    assert unknown_names() == ["no.such.place"]

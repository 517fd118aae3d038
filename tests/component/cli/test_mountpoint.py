"""The mount directory: what is refused, what a crash left, who keeps it busy."""

import ctypes
import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayfs import mountpoint
from gatewayfs.errors import UserError

needs_mount = pytest.mark.mount


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory; whatever gets mounted on it is gone afterwards."""
    made = tmp_path / "the mount"
    made.mkdir()
    yield made
    while mountpoint.mounted_at(made):
        subprocess.run(["umount", "-l", str(made)], check=True)


def fuse_mount(path: Path, kind: str = "fuse.gatewayfs") -> int:
    """A FUSE mount without a daemon; it hangs until the returned descriptor is closed, then it is dead."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bucket/x", os.fsencode(path), kind.encode(), 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def prepare(path: Path, **options: bool) -> Path:
    return mountpoint.prepare_mountpoint(path, cache_directory=Path("/var/cache/x"), **options)


def test_an_empty_directory_is_fit(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place)
    assert prepare(place) == place
    assert prepare(tmp_path / "link") == place


@pytest.mark.parametrize("name, message", [("missing", "does not exist"), ("file", "is not a directory")])
def test_what_is_no_directory_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message) as caught:
        prepare(tmp_path / name)
    assert caught.value.cure


def test_a_directory_with_entries_is_refused_with_the_cure_unless_asked_for(place: Path) -> None:
    (place / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty") as caught:
        prepare(place)
    assert "'thesis.txt'" in caught.value.message
    assert "mount.options=nonempty" in caught.value.cure
    assert prepare(place, allow_nonempty=True) == place


def test_the_cache_may_lie_neither_in_nor_around_the_mount(place: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden way").symlink_to(place)
    for cache in (place, place / "cache", tmp_path / "hidden way" / "cache", tmp_path):
        with pytest.raises(UserError, match=r"cache\.directory"):
            mountpoint.prepare_mountpoint(place, cache_directory=cache)


@needs_mount
def test_a_dead_mount_of_ours_is_detached_at_the_last_moment_and_logged(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        os.close(fuse_mount(place))
    assert mountpoint.answers(place) == errno.ENOTCONN
    assert prepare(place) == place
    assert mountpoint.answers(place) == errno.ENOTCONN  # nobody can write into the bare directory meanwhile
    mountpoint.uncover(place)
    assert mountpoint.mounted_at(place) is None
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [f"detaching the dead mount of bucket/x on {place}, left by a crash"] * 2


@needs_mount
def test_what_lies_under_a_dead_mount_is_not_hidden_again(place: Path) -> None:
    (place / "thesis.txt").touch()
    os.close(fuse_mount(place))
    assert prepare(place) == place
    with pytest.raises(UserError, match=r"is not empty \(it has 'thesis.txt'\)"):
        mountpoint.uncover(place)
    mountpoint.uncover(place, allow_nonempty=True)


@needs_mount
def test_a_dead_mount_of_somebody_else_is_left_alone(place: Path) -> None:
    os.close(fuse_mount(place, "fuse.sshfs"))
    with pytest.raises(UserError, match=r"a dead mount of fuse\.sshfs is on"):
        prepare(place)
    assert mountpoint.mounted_at(place) is not None


@needs_mount
def test_a_mount_that_hangs_is_refused_and_hangs_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "ANSWER_S_MAX", 0.1)
    fd = fuse_mount(place)
    try:
        with pytest.raises(UserError, match=r"is mounted on .* already and does not answer"):
            prepare(place)
    finally:
        os.close(fd)  # ends the thread that still asks


@needs_mount
def test_a_busy_mount_is_not_unmounted_and_its_users_are_named(place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    (place / "sub").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=place / "sub") as user:
        with pytest.raises(UserError, match=rf"is in use by sleep \(pid {user.pid}\)"):
            mountpoint.unmount(place)
        user.kill()
    mountpoint.unmount(place)
    assert mountpoint.mounted_at(place) is None
    with pytest.raises(UserError, match="cannot be unmounted: Invalid argument"):
        mountpoint.unmount(place)

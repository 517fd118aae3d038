"""The mount lives through its own faults, and what was acknowledged lives through kill -9."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.syscalls import fails, name_to_handle, open_by_handle, write_file


@pytest.mark.semantics("a-bug-costs-one-call")
def test_an_unexpected_exception_costs_one_eio_and_a_traceback(gateway: Callable[..., Gateway]) -> None:
    served = gateway(env={"GATEWAYFS_FAILPOINTS": "vfs.mkdir.before=error"})
    with fails(errno.EIO):
        os.mkdir(served.mount_dir / "first")
    os.mkdir(served.mount_dir / "second")
    write_file(served.mount_dir / "second" / "file", b"content")
    assert (served.mount_dir / "second" / "file").read_bytes() == b"content"
    log = served.log()
    assert "mkdir failed unexpectedly" in log
    assert "Traceback" in log
    served.drain()
    assert served.bucket.keys() == ["second/", "second/file"]


@pytest.mark.semantics("durable-close", "durable-metadata")
def test_what_close_and_metadata_calls_acknowledged_survives_kill_9(gateway: Callable[..., Gateway]) -> None:
    served = gateway()
    root = served.mount_dir
    (root / "dir").mkdir(mode=0o750)
    small, large = os.urandom(1000), os.urandom(300_000)
    write_file(root / "dir" / "small", small)
    write_file(root / "large", large)
    os.symlink("dir/small", root / "link")
    os.rename(root / "large", root / "dir" / "renamed")
    os.chmod(root / "dir" / "small", 0o4711)
    os.chown(root / "dir" / "small", 1001, 1002)
    os.utime(root / "dir" / "small", ns=(1, 1_234_567_890_123_456_789))
    os.setxattr(root / "dir" / "small", "user.note", b"kept")
    write_file(root / "gone")
    os.unlink(root / "gone")
    os.truncate(root / "dir" / "renamed", 200_000)
    before = {path: path.lstat() for path in root.rglob("*")}
    served.kill9()
    served.start()
    assert {path: status(path.lstat()) for path in root.rglob("*")} == {
        path: status(found) for path, found in before.items()
    }
    assert (root / "dir" / "small").read_bytes() == small
    assert (root / "dir" / "renamed").read_bytes() == large[:200_000]
    assert os.getxattr(root / "dir" / "small", "user.note") == b"kept"
    served.drain()
    assert served.bucket.keys() == ["dir/", "dir/renamed", "dir/small", "link"]
    assert served.bucket.body("dir/renamed") == large[:200_000]


def test_umount_ends_the_gateway_although_a_container_has_a_copy_of_the_mount(
    gateway: Callable[..., Gateway],
) -> None:
    served = gateway()
    write_file(served.mount_dir / "f", b"content")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo apart; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"apart\n"
        served.umount()
    assert served.bucket.body("f") == b"content"


def status(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_ino,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_nlink,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


@pytest.mark.semantics("unlink-open")
def test_a_file_unlinked_while_open_is_gone_after_a_crash(gateway: Callable[..., Gateway]) -> None:
    served = gateway()
    fd = os.open(served.mount_dir / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"content")
    os.fsync(fd)
    os.unlink(served.mount_dir / "f")
    served.kill9()
    with fails(errno.ENOTCONN):
        os.close(fd)
    served.start()
    assert os.listdir(served.mount_dir) == []
    served.drain()
    assert served.bucket.keys() == []


@pytest.mark.semantics("handles-survive")
def test_an_nfs_style_handle_opens_the_same_file_after_a_restart(gateway: Callable[..., Gateway]) -> None:
    served = gateway()
    root: Path = served.mount_dir
    (root / "dir").mkdir()
    write_file(root / "dir" / "kept", b"kept")
    write_file(root / "dir" / "removed", b"removed")
    handles = {name: name_to_handle(root / "dir" / name) for name in ("", "kept", "removed")}
    served.kill9()
    served.start()
    os.rename(root / "dir" / "kept", root / "elsewhere")
    os.unlink(root / "dir" / "removed")
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = open_by_handle(mount, handles["kept"], os.O_RDWR)
        assert os.pread(fd, 100, 0) == b"kept"
        os.pwrite(fd, b"KEPT", 0)
        os.close(fd)
        fd = open_by_handle(mount, handles[""], os.O_RDONLY | os.O_DIRECTORY)
        assert os.listdir(fd) == []
        assert os.stat("..", dir_fd=fd).st_ino == os.stat(root).st_ino
        os.close(fd)
        with fails(errno.ESTALE):
            open_by_handle(mount, handles["removed"], os.O_RDONLY)
    finally:
        os.close(mount)
    assert (root / "elsewhere").read_bytes() == b"KEPT"

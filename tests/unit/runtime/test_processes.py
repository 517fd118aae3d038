"""Whose descriptors are found in another process: by device, in whatever directory its file lies."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayfs.runtime.processes import borrowed_descriptors

NULL = Path("/dev/null")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose standard input is /dev/null, and nothing else."""
    command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_descriptor_is_found_by_its_device_whatever_its_path(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    alias = tmp_path / "other-name"
    try:
        os.mknod(alias, stat.S_IFCHR | 0o600, NULL.stat().st_rdev)
    except PermissionError:
        alias = NULL
    pidfd = os.pidfd_open(child.pid)
    copies = borrowed_descriptors(child.pid, pidfd, alias)
    assert [os.fstat(copy).st_rdev for copy in copies] == [NULL.stat().st_rdev]
    for descriptor in (*copies, pidfd):
        os.close(descriptor)


def test_a_process_without_one_is_an_error_not_an_empty_hold(child: subprocess.Popen[bytes]) -> None:
    pidfd = os.pidfd_open(child.pid)
    with pytest.raises(OSError, match="has no descriptor of /dev/zero") as caught:
        borrowed_descriptors(child.pid, pidfd, Path("/dev/zero"))
    assert caught.value.errno == errno.ENODEV
    os.close(pidfd)

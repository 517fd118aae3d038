"""A cache disk that fails on demand: ext4 on a loop device whose image lies in a FUSE file system of our own.

    the gateway's cache directory ── ext4 ── /dev/loopN ── disk.img ── this module's process ── a file in memory

The kernel above is the real one: page cache, write-back, ext4's journal and its error handling. What the device does is
told by one word in a file: ``ok``; ``hang`` (requests wait until the word changes); ``eio``, ``eio-read``,
``eio-write`` (they fail); ``slow`` (each takes ``SLOW_S``). (The kernel here has no device mapper, whose dm-error,
dm-delay and dm-flakey would do.)
"""

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyfuse3
import trio

SLOW_S = 0.7
POLL_S = 0.02
STARTS_S_MAX = 20.0
IMAGE_INO = 2


class FaultyDisk:
    """A mounted file system of ``size_bytes``; a context manager that always gets rid of it.

    Args:
        home: an existing directory for the image, the control file and the two mount points.
        options: how ext4 is mounted.
    """

    def __init__(self, home: Path, size_bytes: int = 128 << 20, options: str = "errors=continue") -> None:
        self.directory = home / "disk"
        self._home, self._size_bytes, self._options = home, size_bytes, options
        self._control = home / "control"
        self._stack = contextlib.ExitStack()
        self._loop = ""

    def behave(self, how: str) -> None:
        """What the device does from now on; see the module."""
        temporary = self._control.with_suffix(".new")
        temporary.write_text(how)
        temporary.rename(self._control)

    def remount(self) -> None:
        """What an administrator does once the device is well again: ext4 has stopped, and begins anew."""
        self.behave("ok")
        subprocess.run(["umount", str(self.directory)], check=True)
        subprocess.run(["e2fsck", "-p", self._loop], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", self._options, self._loop, str(self.directory)], check=True)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            image = self._serve(stack)
            attach = ["losetup", "--find", "--show", str(image)]
            self._loop = loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
            stack.callback(subprocess.run, ["losetup", "--detach", loop], check=False)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop], check=True)
            self.directory.mkdir()
            subprocess.run(["mount", "-o", self._options, loop, str(self.directory)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(self.directory)], check=False)
            # First of all: what still waits for the device gets its answer.
            stack.callback(self.behave, "ok")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def _serve(self, stack: contextlib.ExitStack) -> Path:
        lower = self._home / "lower"
        lower.mkdir()
        self.behave("ok")
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(lower), str(self._control), str(self._size_bytes)],
            cwd=Path(__file__).parents[2],
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        stack.callback(subprocess.run, ["umount", "-l", str(lower)], check=False)
        image, deadline_s = lower / "disk.img", time.monotonic() + STARTS_S_MAX
        while not image.exists():
            assert server.poll() is None, "the device's process ended"
            assert time.monotonic() < deadline_s, "the device's process did not start"
            time.sleep(POLL_S)
        return image


class Device(pyfuse3.Operations):
    """One file, ``disk.img``."""

    def __init__(self, memory: int, size_bytes: int, control: Path) -> None:
        super().__init__()
        self._memory, self._size_bytes, self._control = memory, size_bytes, control

    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if name != b"disk.img":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(IMAGE_INO)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self._behave("read")
        return os.pread(self._memory, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self._behave("write")
        return os.pwrite(self._memory, buf, off)

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._behave("write")

    async def release(self, fh: int) -> None:
        """Nothing is kept per opening."""

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """There is always the one file."""

    async def _behave(self, what: str) -> None:
        slept = False
        while (word := self._control.read_text()) == "hang" or (word == "slow" and not slept):
            await trio.sleep(POLL_S if word == "hang" else SLOW_S)
            slept = word == "slow"
        if word in ("eio", f"eio-{what}"):
            raise pyfuse3.FUSEError(errno.EIO)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = 3600
        entry.st_mode = stat.S_IFDIR | 0o700 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o600
        entry.st_nlink = 1
        entry.st_size = 0 if inode == pyfuse3.ROOT_INODE else self._size_bytes
        return entry


def serve(directory: str, control: str, size: str) -> None:
    """Be the device, until unmounted."""
    memory = os.memfd_create("disk")
    os.truncate(memory, int(size))
    options = {*pyfuse3.default_options, "fsname=gwfs-faulty-disk"}
    pyfuse3.init(Device(memory, int(size), Path(control)), directory, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    serve(*sys.argv[1:])

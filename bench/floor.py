"""What pyfuse3 leaves of ext4's rate before a file system does anything: the floor under our small-file rates.

An empty file system answers lookup, create, write, flush and release from memory, in a process of its own as the daemon
is. Create, write and close of small files are timed on it, on a local directory and on a mounted share (moto is the
store, nothing is due for upload), rounds interleaved, best of each: what is lost between the floor and the share is
ours.
"""

import errno
import itertools
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from bench.mounted import FILES, SMALL
from tests.support.gateway import Gateways
from tests.support.moto import moto_server
from tests.support.s3server import TEST_KEY, TEST_SECRET, fresh_bucket

ROUNDS = 6
MOUNT_S_MAX = 20.0


class Empty(pyfuse3.Operations):
    """Names and sizes in dictionaries; bytes are thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[tuple[int, bytes], int] = {}
        self._attributes = {pyfuse3.ROOT_INODE: _attributes(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755)}
        self._inos = itertools.count(pyfuse3.ROOT_INODE + 1)

    def _add(self, parent: int, name: bytes, mode: int) -> pyfuse3.EntryAttributes:
        ino = self._names[parent, name] = next(self._inos)
        self._attributes[ino] = _attributes(ino, mode)
        return self._attributes[ino]

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._attributes[inode]

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        ino = self._names.get((parent_inode, name))
        if ino is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes[ino]

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._add(parent_inode, name, stat.S_IFDIR | mode)

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        made = self._add(parent_inode, name, stat.S_IFREG | mode)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(made.st_ino)), made

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        attributes = self._attributes[fh]
        attributes.st_size = max(attributes.st_size, off + len(buf))
        return len(buf)

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        pass


def _attributes(ino: int, mode: int) -> pyfuse3.EntryAttributes:
    made = pyfuse3.EntryAttributes()
    made.st_ino, made.st_mode, made.st_nlink = pyfuse3.InodeT(ino), pyfuse3.ModeT(mode), 1
    made.entry_timeout = made.attr_timeout = 0
    return made


def run() -> dict[str, Any]:
    """Creates a second, and the ratios of ours and of the floor's."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    best: dict[str, float] = {}
    with (
        moto_server() as endpoint,
        fresh_bucket(endpoint) as bucket,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as scratch,
        Gateways(Path(scratch)) as gateways,
        _empty(Path(scratch)) as floor,
    ):
        gateway = gateways.mount(bucket, settings={"upload.settle": "600s", "upload.settle_max": "600s"})
        local = Path(scratch) / "local"
        local.mkdir()
        for number in range(ROUNDS):
            for name, directory in (("gatewayfs", gateway.mount_dir), ("floor", floor), ("local", local)):
                place = directory / f"round{number}"
                place.mkdir()
                best[name] = max(best.get(name, 0.0), _creates_per_s(place))
    return {
        **{f"creates_per_s_{name}": round(rate) for name, rate in best.items()},
        "ratio_to_local": round(best["gatewayfs"] / best["local"], 3),
        "floor_ratio_to_local": round(best["floor"] / best["local"], 3),
        "ratio_to_floor": round(best["gatewayfs"] / best["floor"], 2),
    }


def _creates_per_s(place: Path) -> float:
    begun = time.perf_counter()
    for number in range(FILES):
        fd = os.open(place / f"f{number}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, SMALL)
        os.close(fd)
    return FILES / (time.perf_counter() - begun)


@contextmanager
def _empty(scratch: Path) -> Iterator[Path]:
    """The empty file system, mounted by another process."""
    mountpoint = scratch / "floor"
    mountpoint.mkdir()
    with subprocess.Popen([sys.executable, "-m", "bench.floor", str(mountpoint)]) as daemon:
        try:
            deadline = time.monotonic() + MOUNT_S_MAX
            while not mountpoint.is_mount():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the empty file system does not mount")
                time.sleep(0.05)
            yield mountpoint
        finally:
            subprocess.run(["umount", "-l", str(mountpoint)], check=False)
            daemon.wait(MOUNT_S_MAX)


def _serve(mountpoint: str) -> None:
    pyfuse3.init(Empty(), mountpoint, {"fsname=floor", "default_permissions", *pyfuse3.default_options})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    _serve(sys.argv[1])

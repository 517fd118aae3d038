"""The same random operations on the mount and in a local directory, then the same trees, and the same in the bucket.

What Linux's own file system answers is the oracle, errno by errno, for root and for others with and without rights.
Operations are chosen by a seeded generator from
what is there and what is not; a failure names the seed and the operation, and ``GATEWAYFS_DIFFERENTIAL_SEED=n`` runs
that seed alone. Known deviations are not asked for (hard links) or not compared (access times; sizes, blocks and inode
numbers of directories).
"""

import errno
import os
import random
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.bucketcompare import compare_with_bucket
from tests.support.gateway import Gateway
from tests.support.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, acting_as, renameat2

SEEDS = [int(seed) for seed in os.environ.get("GATEWAYFS_DIFFERENTIAL_SEED", "1 2 3").split()]
OPERATIONS = int(os.environ.get("GATEWAYFS_DIFFERENTIAL_OPERATIONS", "600"))

NAMES = ["a", "b", "c", "d", "é", "with blank", "x" * 255]
DEPTH_MAX = 4
CALLERS = [(0, 0, ()), (1001, 1001, (2002,)), (1002, 2002, ())]
SIZES = [0, 1, 100, 4096, 65_536, 65_537, 200_000]


@dataclass(frozen=True)
class Operation:
    """One call; ``run`` gets the root to do it in and returns what is to be compared."""

    text: str
    run: Callable[[Path], object]


class Chooser:
    """Makes operations up, looking at the local tree for names that exist."""

    def __init__(self, rng: random.Random, local: Path) -> None:
        self.rng = rng
        self.local = local
        self.clock_ns = 10**18

    def some_path(self) -> str:
        """Mostly something that is there, sometimes a new name, now and then something impossible."""
        there = sorted(str(path.relative_to(self.local)) for path in self.local.rglob("*"))
        if there and self.rng.random() < 0.7:
            return self.rng.choice(there)
        return self.new_path(there)

    def new_path(self, there: list[str] | None = None) -> str:
        if there is None:
            there = sorted(str(path.relative_to(self.local)) for path in self.local.rglob("*"))
        above = self.rng.choice(["", *there])
        if above.count("/") >= DEPTH_MAX or len(above) > 500:
            above = ""
        return f"{above}/{self.rng.choice(NAMES)}".lstrip("/")

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice(SIZES))

    def next(self) -> Operation:
        kinds = [getattr(self, name) for name in dir(self) if name.startswith("op_")]
        operation: Operation = self.rng.choice(kinds)()
        return operation

    def op_create(self) -> Operation:
        path, data, mode = self.new_path(), self.data(), self.rng.choice([0o600, 0o644, 0o777])
        return Operation(f"create {path} {len(data)}", lambda root: write(root / path, data, os.O_CREAT, mode))

    def op_create_exclusive(self) -> Operation:
        path, data = self.some_path(), self.data()
        return Operation(
            f"create-exclusive {path}", lambda root: write(root / path, data, os.O_CREAT | os.O_EXCL, 0o644)
        )

    def op_overwrite(self) -> Operation:
        path, data = self.some_path(), self.data()
        return Operation(f"overwrite {path} {len(data)}", lambda root: write(root / path, data, os.O_TRUNC))

    def op_append(self) -> Operation:
        path, data = self.some_path(), self.data()
        return Operation(f"append {path} {len(data)}", lambda root: write(root / path, data, os.O_APPEND))

    def op_patch(self) -> Operation:
        path, data, offset = self.some_path(), self.data(), self.rng.choice([0, 1, 5000, 65_536, 300_000])
        return Operation(f"patch {path} {len(data)} at {offset}", lambda root: patch(root / path, data, offset))

    def op_truncate(self) -> Operation:
        path, size = self.some_path(), self.rng.choice(SIZES)
        return Operation(f"truncate {path} {size}", lambda root: os.truncate(root / path, size))

    def op_read(self) -> Operation:
        path = self.some_path()
        return Operation(f"read {path}", lambda root: read(root / path))

    def op_mkdir(self) -> Operation:
        path, mode = self.new_path(), self.rng.choice([0o700, 0o755, 0o777, 0o1777, 0o2775])
        return Operation(f"mkdir {path} {mode:o}", lambda root: os.mkdir(root / path, mode))

    def op_symlink(self) -> Operation:
        path, target = self.new_path(), self.rng.choice(["a", "../b", "nowhere/at/all", "é" * 100])
        return Operation(f"symlink {path}", lambda root: os.symlink(target, root / path))

    def op_readlink(self) -> Operation:
        path = self.some_path()
        return Operation(f"readlink {path}", lambda root: os.readlink(root / path))

    def op_mkfifo(self) -> Operation:
        path = self.new_path()
        return Operation(f"mkfifo {path}", lambda root: os.mkfifo(root / path, 0o640))

    def op_mknod(self) -> Operation:
        path, kind = self.new_path(), self.rng.choice([stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFREG])
        return Operation(f"mknod {path} {kind:o}", lambda root: os.mknod(root / path, kind | 0o664, os.makedev(7, 300)))

    def op_unlink(self) -> Operation:
        path = self.some_path()
        return Operation(f"unlink {path}", lambda root: os.unlink(root / path))

    def op_rmdir(self) -> Operation:
        path = self.some_path()
        return Operation(f"rmdir {path}", lambda root: os.rmdir(root / path))

    def op_rename(self) -> Operation:
        old, new = self.some_path(), self.rng.choice([self.some_path, self.new_path])()
        return Operation(f"rename {old} -> {new}", lambda root: os.rename(root / old, root / new))

    def op_rename_special(self) -> Operation:
        old, new, flag = self.some_path(), self.some_path(), self.rng.choice([RENAME_EXCHANGE, RENAME_NOREPLACE])
        return Operation(f"renameat2 {old} -> {new} {flag}", lambda root: renameat2(root / old, root / new, flag))

    def op_chmod(self) -> Operation:
        path, mode = self.some_path(), self.rng.choice([0o000, 0o640, 0o4755, 0o6777, 0o1777])
        return Operation(f"chmod {path} {mode:o}", lambda root: os.chmod(root / path, mode))

    def op_chown(self) -> Operation:
        path, uid, gid = self.some_path(), self.rng.choice([-1, 0, 1001]), self.rng.choice([-1, 0, 2002])
        return Operation(f"chown {path} {uid} {gid}", lambda root: os.lchown(root / path, uid, gid))

    def op_utime(self) -> Operation:
        path, ns = self.some_path(), self.rng.choice([1, 999_999_999, 1_234_567_890_123_456_789, 4_000_000_000 * 10**9])
        return Operation(f"utime {path} {ns}", lambda root: os.utime(root / path, ns=(7, ns), follow_symlinks=False))

    def op_xattr(self) -> Operation:
        path, name, value = (
            self.some_path(),
            self.rng.choice(["user.a", "user.b"]),
            self.rng.choice([b"", b"v", b"\xff" * 20]),
        )
        return Operation(
            f"setxattr {path} {name}", lambda root: os.setxattr(root / path, name, value, follow_symlinks=False)
        )

    def op_remove_xattr(self) -> Operation:
        path = self.some_path()
        return Operation(
            f"removexattr {path}", lambda root: os.removexattr(root / path, "user.a", follow_symlinks=False)
        )

    def op_stat(self) -> Operation:
        path = self.some_path()
        return Operation(f"stat {path}", lambda root: status(root / path)[1:])

    def op_listdir(self) -> Operation:
        path = self.some_path()
        return Operation(f"listdir {path}", lambda root: sorted(os.listdir(root / path)))

    def op_link(self) -> Operation:
        """Only where both must refuse: a link to something missing."""
        path = self.new_path()
        return Operation(f"link {path}", lambda root: os.link(root / "missing", root / path))

    def op_unlink_open(self) -> Operation:
        path, data = self.some_path(), self.data()
        return Operation(f"write-after-unlink {path}", lambda root: write_after_unlink(root / path, data))


def write(path: Path, data: bytes, flags: int, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, mode)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def read(path: Path) -> bytes:
    # O_NONBLOCK throughout, or the first fifo would be the last.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def patch(path: Path, data: bytes, offset: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_after_unlink(path: Path, data: bytes) -> object:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "not a file"
        os.unlink(path)
        os.pwrite(fd, data, 10)
        return os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


def outcome(operation: Operation, root: Path) -> object:
    try:
        return operation.run(root)
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]


# What differs and is allowed to: xattrs on symlinks and fifos are EPERM by the kernel on both; ext4 has no EILSEQ.
def status(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return found.st_mtime_ns, found.st_mode, found.st_uid, found.st_gid, size, found.st_nlink, found.st_rdev


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a directory but what may differ. Times set explicitly are compared, others not."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        details: object = None
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            details = os.readlink(path)
        elif stat.S_ISREG(mode):
            details = path.read_bytes()
        mtime_ns, *rest = status(path)
        explicit = mtime_ns if mtime_ns in (1, 999_999_999, 1_234_567_890_123_456_789, 4_000_000_000 * 10**9) else 0
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        found[str(path.relative_to(root))] = (*rest, explicit, details, xattrs)
    return found


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A local directory that others than root get into (pytest's own are for nobody else), "nodev" as the mount is."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o777)
        subprocess.run(["mount", "--bind", directory, directory], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,nodev", directory], check=True)
            yield Path(directory)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.semantics("object-per-file", "object-metadata")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_mount_and_a_local_directory_answer_alike_and_the_bucket_agrees(
    seed: int, mounted: Gateway, work: Path, open_directory: Path
) -> None:
    os.umask(0o002)
    # One level down: symlinks to "../b" lead outside the tree, and must not meet those of another seed.
    local, work = open_directory / "tree", work / "tree"
    for root in (local, work):
        root.mkdir()
        root.chmod(0o777)
    chooser = Chooser(random.Random(seed), local)
    for number in range(OPERATIONS):
        operation = chooser.next()
        uid, gid, groups = chooser.rng.choice(CALLERS)
        with acting_as(uid, gid, groups):
            here, there = outcome(operation, local), outcome(operation, work)
        assert there == here, f"seed {seed}, operation {number} as {uid}: {operation.text}"
        if number % 100 == 99:
            assert tree(work) == tree(local), f"seed {seed}, after operation {number}"
        if number % 250 == 249:
            mounted.drain()
    expected = tree(local)
    assert tree(work) == expected
    mounted.drain()
    compare_with_bucket(mounted.bucket, f"{work.parent.name}/tree/", work)


def test_the_comparison_notices_a_difference(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
        (root / "f").write_bytes(b"content")
    assert tree(one) == tree(two)
    (two / "f").chmod(0o600)
    assert tree(one) != tree(two)

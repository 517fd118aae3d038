"""Trees of s3fs and rclone, written by the tools themselves, on the mount; and ours as those tools see them."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.applications import run
from tests.support.gateway import Gateway
from tests.support.othertools import rclone, s3fs, why_not
from tests.support.s3server import Bucket

Mount = Callable[..., Gateway]
Row = tuple[int, int, int, int, object]

AT_NS = 981_173_106_789_123_456

pytestmark = pytest.mark.semantics("other-tools-attributes")


def need(tool: str) -> None:
    if reason := why_not(tool):
        pytest.skip(reason)


def tree(root: Path) -> Path:
    """Modes, owners, times, a symlink, directories, an empty file."""
    (root / "d" / "empty").mkdir(parents=True)
    (root / "d" / "tool").write_bytes(b"#!")
    (root / "data").write_bytes(b"0123456789")
    (root / "nothing").touch()
    os.symlink("d/tool", root / "link")
    for path, mode, owner in (("d", 0o2750, 7), ("d/empty", 0o700, 0), ("d/tool", 0o4751, 8), ("data", 0o604, 9)):
        os.chown(root / path, owner, owner + 100)
        os.chmod(root / path, mode)
    for number, path in enumerate(("data", "nothing", "d/tool", "link", "d/empty", "d")):
        os.utime(root / path, ns=(AT_NS + number, AT_NS + number), follow_symlinks=False)
    return root


def seen(root: Path, *, directories: bool = True) -> dict[str, Row]:
    """Type, mode, owner, group, mtime and content of everything below ``root``."""
    found: dict[str, Row] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif not directories:
            continue
        found[str(path.relative_to(root))] = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content
    return found


def listed_and_past(served: Gateway, bucket: Bucket, *keys: str) -> None:
    """Return when a change of attributes alone will show: only LastModified tells it, which has seconds, and which the
    answer to a PUT does not say, but the first listing after it."""
    served.verb("refresh-cache", "--wait", str(served.mount_dir))
    latest = max(bucket.head(key)["LastModified"].timestamp() for key in keys)
    while time.time() < int(latest) + 1:
        time.sleep(0.05)


def test_a_tree_of_s3fs_and_what_it_makes_of_our_changes(bucket: Bucket, gateway: Mount, tmp_path: Path) -> None:
    need("s3fs")
    source = tree(tmp_path / "source")
    with s3fs(bucket, tmp_path) as mount:
        # The root of a whole bucket has no object that could take times.
        run("cp", "-a", *source.iterdir(), mount, cwd=tmp_path)
    expected = seen(source)
    served = gateway(settings={"objects.also_write": "s3fs"})
    root = served.mount_dir
    assert seen(root) == expected

    os.chmod(root / "data", 0o640)
    os.chown(root / "d", 3, 4)
    (root / "made").write_bytes(b"here")
    os.symlink("made", root / "second")
    os.utime(root / "made", ns=(5, AT_NS))
    served.drain()
    listed_and_past(served, bucket, "made", "data")
    expected = seen(root)
    with s3fs(bucket, tmp_path) as mount:
        assert seen(mount) == expected
        os.chmod(mount / "made", 0o711)
        os.utime(mount / "data", ns=(AT_NS, AT_NS + 10**10))
    served.verb("refresh-cache", "--wait", str(root))
    assert stat.S_IMODE((root / "made").stat().st_mode) == 0o711, "s3fs had the last word"
    assert (root / "data").stat().st_mtime_ns == AT_NS + 10**10
    assert stat.S_IMODE((root / "data").stat().st_mode) == 0o640


def test_a_tree_of_rclone_and_what_it_makes_of_our_changes(bucket: Bucket, gateway: Mount, tmp_path: Path) -> None:
    need("rclone")
    source = tree(tmp_path / "source")
    copy = ("copy", "--links", "--metadata", "--create-empty-src-dirs", "--s3-directory-markers")
    rclone(bucket, tmp_path, *copy, source, "b:")
    expected = {
        path + ".rclonelink" * stat.S_ISLNK(row[0]): row for path, row in seen(source, directories=False).items()
    }
    served = gateway(settings={"objects.also_write": "rclone"})
    root = served.mount_dir
    assert seen(root, directories=False) == expected
    assert sorted(path.name for path in root.rglob("*") if path.is_dir()) == ["d", "empty"]

    os.chmod(root / "data", 0o640)
    os.chmod(root / "d" / "tool", 0o751)  # rclone gives away the file after it set the mode, which takes setuid
    os.utime(root / "nothing", ns=(1, AT_NS + 10**9))
    (root / "made").write_bytes(b"here")
    os.chown(root / "made", 21, 22)
    served.drain()
    listed_and_past(served, bucket, "made")
    back = tmp_path / "back"
    # rclone writes an object's metadata into xattrs, which no symlink can have: links go without.
    rclone(bucket, tmp_path, "copy", "--metadata", "--exclude", "*.rclonelink", "b:", back)
    rclone(bucket, tmp_path, "copy", "--links", "--include", "*.rclonelink", "b:", back)
    assert os.readlink(back / "link") == os.readlink(root / "link.rclonelink") == "d/tool"
    os.unlink(back / "link")
    os.unlink(root / "link.rclonelink")
    assert seen(back, directories=False) == seen(root, directories=False)

    rclone(bucket, tmp_path, "touch", "--timestamp", "2020-01-02T03:04:05.000000006", "b:made")
    served.verb("refresh-cache", "--wait", str(root))
    assert (root / "made").stat().st_mtime_ns == 1_577_934_245_000_000_006
    assert (root / "made").stat().st_uid == 21

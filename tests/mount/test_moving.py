"""docs/operating.md, "moving to new hardware": a share goes on with a copy of its cache directory, or with none."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

LARGE = os.urandom(300_000)


def numbers(root: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {path.relative_to(root): path.lstat() for path in root.rglob("*")}
    return {str(path): (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_mtime_ns) for path, seen in found.items()}


def test_a_share_moves_with_its_cache_directory_or_without_it(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    share = gateway(settings={"upload.settle": "1h", "upload.settle_max": "1h"})
    root = share.mount_dir
    (root / "uploaded").mkdir()
    (root / "uploaded" / "f").write_bytes(b"in the bucket")
    share.drain()
    (root / "queued").write_bytes(b"not yet")
    (root / "large").write_bytes(LARGE)
    os.truncate(root / "large", 4 << 20)
    os.chown(root / "queued", 1001, 1002)
    before = numbers(root)
    assert share.terminate() == 0

    moved = share.cache_dir.with_name("moved")
    subprocess.run(["cp", "-a", "--sparse=always", str(share.cache_dir), str(moved)], check=True)
    shutil.rmtree(share.cache_dir)
    share.cache_dir = moved
    share.start()
    assert numbers(root) == before
    assert (root / "queued").read_bytes() == b"not yet"
    assert (root / "large").read_bytes()[: len(LARGE)] == LARGE
    share.umount()  # drains: from now on an empty directory will do
    assert bucket.keys() == ["large", "queued", "uploaded/", "uploaded/f"]

    shutil.rmtree(moved)
    share.start()
    after = numbers(root)
    assert {path: seen[1:] for path, seen in after.items()} == {path: seen[1:] for path, seen in before.items()}
    assert (root / "large").read_bytes()[: len(LARGE)] == LARGE

"""The oracle of every mount test: what is below a directory is in the bucket, object by object, and nothing else is."""

import os
import stat
from pathlib import Path

from gatewayfs.s3.attributes import ShareDefaults, decode
from tests.support.s3server import Bucket


def compare_with_bucket(bucket: Bucket, prefix: str, root: Path) -> None:
    """One object per file below ``root``, with its bytes and attributes, and nothing else under ``prefix``.

    Call it after a drain. ``prefix`` is the key of ``root``'s own marker, or "" for the root of a bucket.
    """
    paths = {}
    for path in root.rglob("*"):
        directory = path.is_dir() and not path.is_symlink()
        paths[f"{prefix}{path.relative_to(root)}{'/' if directory else ''}"] = path
    expected = [prefix, *paths] if prefix else [*paths]
    assert bucket.keys(prefix) == sorted(expected, key=lambda key: key.encode())
    for key, path in paths.items():
        compare_object(bucket, key, path)


def compare_object(bucket: Bucket, key: str, path: Path) -> None:
    """The object at ``key`` has the bytes and attributes of ``path``. (Times of directories only travel when set.)"""
    found = path.lstat()
    size = bucket.head(key)["ContentLength"]
    own = decode(bucket.metadata(key), key=key, size=size, defaults=ShareDefaults(), last_modified_ns=0)
    assert (own.mode, own.uid, own.gid) == (found.st_mode, found.st_uid, found.st_gid), key
    if stat.S_ISREG(found.st_mode):
        assert bucket.body(key) == path.read_bytes(), key
    elif stat.S_ISLNK(found.st_mode):
        assert bucket.body(key) == os.fsencode(os.readlink(path)), key
    if not stat.S_ISDIR(found.st_mode):
        assert own.mtime_ns == found.st_mtime_ns, key

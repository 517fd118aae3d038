"""A cache disk that changes bytes, under a mounted share: found by the scrub, never served, never uploaded."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

MIB = 1 << 20


def flip(share: Gateway, data: bytes, ino: int) -> None:
    """One bit in the middle of a file's bytes, on the cache disk."""
    sparse = list((share.cache_dir / "data").glob(f"*/{ino:016x}-*"))
    if sparse:
        path, offset = sparse[0], len(data) // 2
    else:
        path, offset = next(
            (pack, at + len(data) // 2)
            for pack in (share.cache_dir / "packs").glob("*.pack")
            if (at := pack.read_bytes().find(data)) >= 0
        )
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def scrub(share: Gateway, where: Path, *, status: int) -> list[str]:
    done = share.verb("check", str(where), "--scrub", "--json", check=False)
    assert done.returncode == status, done.stderr + done.stdout
    return list(json.loads(done.stdout)["problems"])


def refused(path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        path.read_bytes()


@pytest.mark.semantics("scrub", "damaged-dirty", "damaged-cache")
def test_damage_is_found_fenced_and_never_uploaded(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    files = {"clean-large": os.urandom(3 * MIB), "clean-small": os.urandom(5000)}
    for key, data in files.items():
        bucket.put(key, data)
    share = gateway(settings={"upload.settle": "1h", "upload.settle_max": "1h"})
    files |= {"large": os.urandom(3 * MIB), "small": os.urandom(5000)}
    mount = share.mount_dir
    inodes = {}
    for name, data in files.items():
        if not name.startswith("clean"):
            (mount / name).write_bytes(data)
        assert (mount / name).read_bytes() == data
        inodes[name] = (mount / name).stat().st_ino
    assert scrub(share, mount, status=0) == [], "and what was not sealed is, now"
    share.kill9()
    for name, data in files.items():
        flip(share, data, inodes[name])

    found = scrub(share, share.cache_dir, status=6)
    assert [line.partition(":")[0] for line in sorted(found)[1:]] == ["large", "small"]
    assert sorted(found)[:1] == ["2 damaged blocks that the bucket has, too: they left the cache and are fetched again"]

    share.start()
    for name, data in files.items():
        if name.startswith("clean"):
            assert (mount / name).read_bytes() == data
    refused(mount / "small")
    with (mount / "large").open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert file.read(65536) == files["large"][:65536], "the rest of it can be saved"
    refused(mount / "large")
    status = share.status()
    assert {each["key"]: each["size_bytes"] for each in status["cache"]["fenced"]} == {"large": MIB, "small": 5000}
    assert sum("which is not in the bucket" in line for line in status["problems"]) == 2
    assert share.verb("drain", "--wait", str(mount), check=False).returncode == 5
    assert sorted(bucket.keys()) == ["clean-large", "clean-small"]

    files["large"] = os.urandom(3 * MIB)
    (mount / "large").write_bytes(files["large"])
    (mount / "small").unlink()
    share.drain()
    assert bucket.body("large") == files["large"]
    assert share.status()["cache"]["fenced"] == []
    assert scrub(share, mount, status=0) == []

"""`gatewayfs pin` and `gatewayfs unpin` on a mounted share."""

import json
import os
from collections.abc import Callable

import pytest

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket

MIB = 1 << 20


@pytest.mark.semantics("pin")
def test_a_pinned_tree_is_fetched_stays_is_refetched_and_let_go(
    gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    files = {"tree/small": b"few", "tree/below/deep": os.urandom(3 * MIB), "other": os.urandom(14 * MIB)}
    for key, data in files.items():
        bucket.put(key, data)
    with Link(bucket.endpoint_url) as link:
        share = gateway(endpoint_url=link.url, settings={"cache.size": "16MiB", "upload.settle": "0s"})
        where = str(share.mount_dir)

        def pinned() -> dict[str, object]:
            kept: dict[str, object] = share.status()["cache"]["pinned"]
            return kept

        done = json.loads(share.verb("pin", where, "tree", "--json").stdout)
        assert (done["files"], done["files_left"]) == (2, 0)
        assert pinned()["paths"] == ["tree"]
        assert pinned()["kept_files"] == 2
        # Others fill the cache: what is pinned stays; so does what is made below it.
        (share.mount_dir / "tree/made").write_bytes(b"here")
        share.verb("drain", where, "--wait")
        assert (share.mount_dir / "other").read_bytes() == files["other"]
        share.restart()
        assert (share.mount_dir / "other").read_bytes() == files["other"]
        share.wait_until(lambda: pinned()["kept_files"] == 3, 20.0, "the books of what is pinned")
        evicted = share.verb("evict", where, "tree", check=False)
        assert evicted.stdout.splitlines()[-1].endswith("pinned; gatewayfs unpin lets it go")
        link.refuse()
        assert (share.mount_dir / "tree/below/deep").read_bytes() == files["tree/below/deep"]
        assert (share.mount_dir / "tree/made").read_bytes() == b"here"
        link.join()
        # Others replace a file and add one.
        bucket.put("tree/below/deep", b"new" * 1000)
        bucket.put("tree/found", b"found")
        share.verb("refresh-cache", "--wait", where)
        share.wait_until(lambda: pinned()["kept_files"] == 4, 20.0, "what others changed")
        link.refuse()
        assert (share.mount_dir / "tree/below/deep").read_bytes() == b"new" * 1000
        assert (share.mount_dir / "tree/found").read_bytes() == b"found"
        link.join()
        # More than the cache keeps: said, and served.
        over = share.verb("pin", where, "other", check=False)
        assert over.returncode == 5
        assert "more is pinned than the cache keeps (12 MiB" in over.stdout
        assert any("other: more is pinned" in line for line in share.status()["problems"])
        assert (share.mount_dir / "other").read_bytes() == files["other"]
        assert share.verb("unpin", where, ".").stdout.startswith("let go 5 files")
        assert share.status()["problems"] == []
        assert pinned()["kept_bytes"] == 0
        missing = share.verb("unpin", where, "nowhere", check=False)
        assert "nowhere: is not pinned by itself" in missing.stderr

"""`gatewayfs warm` and `gatewayfs evict` on a mounted share."""

import json
import os
from collections.abc import Callable

import pytest

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket


@pytest.mark.semantics("warm-evict")
def test_a_tree_is_warmed_read_without_the_bucket_and_evicted(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    files = {"tree/small": b"few", "tree/below/deep": os.urandom(3 << 20), "tree/empty": b"", "other": b"apart"}
    for key, data in files.items():
        bucket.put(key, data)
    with Link(bucket.endpoint_url) as link:
        share = gateway(endpoint_url=link.url, settings={"upload.settle": "1h", "upload.settle_max": "1h"})
        where = str(share.mount_dir)
        done = json.loads(share.verb("warm", where, "tree", "--json").stdout)
        assert (done["files"], done["files_left"]) == (3, 0)
        assert done["bytes"] == sum(len(data) for key, data in files.items() if key.startswith("tree/"))
        assert share.verb("warm", where, str(share.mount_dir / "tree")).stdout == "fetched 3 files (0 B)\n"
        link.refuse()
        for key in ("tree/small", "tree/below/deep"):
            assert (share.mount_dir / key).read_bytes() == files[key]
        link.join()
        (share.mount_dir / "tree" / "new").write_bytes(b"only here")
        evicted = share.verb("evict", where, ".", check=False)
        assert evicted.returncode == 5
        assert evicted.stdout.splitlines() == [
            "evicted 2 files (3.0 MiB)",
            "1 file not evicted:",
            "  tree/new: not uploaded yet",
        ]
        assert share.status()["cache"]["used_bytes"] <= 3 * 4096
        assert (share.mount_dir / "tree" / "new").read_bytes() == b"only here"
        share.restart()
        assert (share.mount_dir / "tree/below/deep").read_bytes() == files["tree/below/deep"]
        missing = share.verb("warm", where, "nowhere", check=False)
        assert missing.returncode == 1
        assert "nowhere" in missing.stderr

"""Read-only shares: EROFS for everybody, and not one request that could change the bucket."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateways
from tests.support.recorder import Recorder
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

READ_ONLY = {"share.read_only": "true"}


def attempts(mount: Path) -> dict[str, Callable[[], object]]:
    """Every way there is to change something."""
    file, directory = mount / "f", mount / "d"
    return {
        "create": lambda: os.open(mount / "new", os.O_CREAT | os.O_WRONLY),
        "open for writing": lambda: os.open(file, os.O_WRONLY),
        "open for both": lambda: os.open(file, os.O_RDWR),
        "open and truncate": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(file, 0),
        "mkdir": lambda: os.mkdir(mount / "new"),
        "mknod": lambda: os.mkfifo(mount / "new"),
        "symlink": lambda: os.symlink("f", mount / "new"),
        "link": lambda: os.link(file, mount / "new"),
        "unlink": lambda: os.unlink(file),
        "rmdir": lambda: os.rmdir(directory),
        "rename": lambda: os.rename(file, mount / "new"),
        "chmod": lambda: os.chmod(file, 0o600),
        "chown": lambda: os.chown(file, 1, 1),
        "utimes": lambda: os.utime(file),
        "setxattr": lambda: os.setxattr(file, "user.a", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.note"),
    }


@pytest.mark.semantics("read-only")
def test_nothing_can_be_changed_and_nothing_is_sent(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("f", b"content", Metadata={"note": "theirs"})
    bucket.put("d/")
    bucket.put("implicit/x", b"y")
    with Recorder(bucket.endpoint_url) as recorder:
        gateway = gateways.mount(bucket, settings=READ_ONLY, endpoint_url=recorder.url)
        mount = gateway.mount_dir

        def untouched() -> None:
            for name, attempt in attempts(mount).items():
                with fails(errno.EROFS):
                    attempt()
                    pytest.fail(f"{name} succeeded")
            assert sorted(os.listdir(mount)) == ["d", "f", "implicit"]
            assert (mount / "f").read_bytes() == b"content"
            assert os.getxattr(mount / "f", "user.note") == b"theirs"
            assert os.listdir(mount / "implicit") == ["x"]

        untouched()
        # Root can take the flag off the mount; the gateway stays what it is.
        subprocess.run(["mount", "-i", "-o", "remount,rw", str(mount)], check=True)
        untouched()
        gateway.verb("refresh-cache", "--wait", str(mount))
        gateway.drain()
        status = gateway.status()
        assert status["share"]["read_only"]
        assert status["upload"]["entries"] == 0
        gateway.restart()
        untouched()
        gateway.umount()
        assert recorder.methods <= {"GET", "HEAD"}, recorder.requests
        # Once it is to be written to, what the store honours is found out as at a first mount.
        gateway.settings = {"upload.settle": "0s"}
        gateway.start()
        assert gateway.status()["s3"]["capabilities"]["probed"]
        (mount / "new").write_bytes(b"now")
        gateway.drain()
    assert bucket.body("new") == b"now"


@pytest.mark.semantics("read-only-queue")
def test_a_share_with_queued_changes_is_not_mounted_read_only(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("old", b"x")
    writable = {"upload.settle": "1h", "upload.settle_max": "1h", "upload.exclude": "*.tmp"}
    gateway = gateways.mount(bucket, settings=writable)
    (gateway.mount_dir / "new").write_bytes(b"only here")
    (gateway.mount_dir / "mine.tmp").write_bytes(b"never leaves")
    (gateway.mount_dir / "old").unlink()
    gateway.umount(drain=False)
    gateway.settings = writable | READ_ONLY
    gateway.spawn()
    assert gateway.wait_exit() == 1
    told = gateway.log()
    assert "share.read_only is set, and 2 changes in" in told
    assert "gatewayfs drain --wait" in told
    assert "Traceback" not in told
    gateway.settings = writable
    gateway.start()
    gateway.drain()
    gateway.umount()
    assert bucket.keys() == ["new"]
    gateway.settings = writable | READ_ONLY
    gateway.start()
    assert (gateway.mount_dir / "new").read_bytes() == b"only here"
    assert (gateway.mount_dir / "mine.tmp").read_bytes() == b"never leaves"

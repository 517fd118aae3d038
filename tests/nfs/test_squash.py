"""Whose a file is when clients write it through a real nfs-ganesha, in each mode of squash: what the bucket says."""

import errno
from collections.abc import Callable

import pytest

from tests.nfs.conftest import Serve
from tests.support.libnfs import Client
from tests.support.recorder import Recorder
from tests.support.s3server import Bucket
from tests.support.syscalls import fails

READING = {"GET", "HEAD"}


@pytest.mark.semantics("root-squash")
@pytest.mark.parametrize(
    ("squash", "of_root", "of_user"),
    [("all", ("4321", "4322"), ("4321", "4322")), ("none", ("0", "0"), ("1000", "1001"))],
)
def test_what_is_stored_in_the_bucket(
    serve: Serve, squash: str, of_root: tuple[str, str], of_user: tuple[str, str]
) -> None:
    gateway, server = serve(
        identity__squash=squash, identity__anonymous_uid="4321", identity__anonymous_gid="4322", share__prefix=squash
    )
    gateway.mount_dir.chmod(0o777)

    def work() -> None:
        for version in (3, 4):
            for uid, gid in ((0, 0), (1000, 1001)):
                with server.mount("/share", version=version, uid=uid, gid=gid) as client:
                    client.write(f"/{uid}-{version}", b"x")
                    client.mkdir(f"/d{uid}-{version}")

    server.inside(work)
    gateway.drain()
    for version in (3, 4):
        for uid, wanted in ((0, of_root), (1000, of_user)):
            for key in (f"{squash}/{uid}-{version}", f"{squash}/d{uid}-{version}/"):
                metadata = gateway.bucket.metadata(key)
                assert (metadata["file-owner"], metadata["file-group"]) == wanted, key


def changes(client: Client) -> dict[str, Callable[[], object]]:
    """What a client may try to change, by name."""
    return {
        "write": lambda: client.write("/f", b"changed"),
        "create": lambda: client.write("/new", b"new"),
        "mkdir": lambda: client.mkdir("/new"),
        "symlink": lambda: client.symlink("f", "/new"),
        "rename": lambda: client.rename("/f", "/new"),
        "unlink": lambda: client.unlink("/f"),
        "chmod": lambda: client.chmod("/f", 0o600),
        "chown": lambda: client.chown("/f", 1, 1),
    }


@pytest.mark.semantics("read-only")
def test_a_read_only_share_sends_the_bucket_nothing_but_questions(serve: Serve, nfs_bucket: Bucket) -> None:
    nfs_bucket.put("ro/f", b"content")
    with Recorder(nfs_bucket.endpoint_url) as recorder:
        gateway, server = serve(endpoint_url=recorder.url, share__read_only="true", share__prefix="ro")

        def work() -> None:
            for version in (3, 4):
                with server.mount("/share", version=version) as client:
                    for name, change in changes(client).items():
                        with fails(errno.EROFS):
                            change()
                            pytest.fail(f"{name} succeeded over NFSv{version}")
                    assert client.read("/f") == b"content"
                    assert client.listdir("/") == ["f"]

        server.inside(work)
        gateway.terminate()
        assert recorder.methods <= READING, recorder.requests
    assert nfs_bucket.body("ro/f") == b"content"

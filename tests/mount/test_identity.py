"""Whom files belong to: squash, forced owners and tables on a real mount, in the bucket, and through a second gateway.

The other mount tests run without squash (``tests/support/gateway.py``).
"""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import Bucket
from tests.support.syscalls import acting_as, write_file

NOBODY = 65534


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    """Daemons of this test, in a place other users may reach (pytest's tmp_path is the owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="gwfs-mount-") as name:
        Path(name).chmod(0o755)
        with Gateways(Path(name)) as factory:
            yield factory


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def stored(gateway: Gateway, key: str) -> tuple[str, str, str]:
    metadata = gateway.bucket.metadata(key)
    return metadata["file-owner"], metadata["file-group"], metadata["file-permissions"]


@pytest.mark.semantics("root-squash")
def test_what_root_makes_or_takes_is_kept_as_nobodys(bucket: Bucket, gateways: Gateways) -> None:
    gateway = gateways.mount(bucket, settings={"identity.squash": "root"})
    mount = gateway.mount_dir
    mount.chmod(0o777)
    write_file(mount / "f", b"root's")
    (mount / "d").mkdir()
    (mount / "l").symlink_to("f")
    os.mkfifo(mount / "p")
    with acting_as(1001, 2001):
        write_file(mount / "users", b"theirs")
    assert {owner(mount / name) for name in "fdlp"} == {(NOBODY, NOBODY)}
    assert owner(mount / "users") == (1001, 2001)
    # root gives away, but keeps nothing as its own
    os.chown(mount / "f", 1002, 0)
    os.chown(mount / "users", 0, -1)
    assert owner(mount / "f") == (1002, NOBODY)
    assert owner(mount / "users") == (NOBODY, 2001)
    # a setgid directory passes on the group that is kept for it
    (mount / "shared").mkdir()
    os.chown(mount / "shared", -1, 2001)
    (mount / "shared").chmod(0o2775)
    write_file(mount / "shared" / "f")
    assert owner(mount / "shared" / "f") == (NOBODY, 2001)
    gateway.drain()
    assert stored(gateway, "f") == ("1002", "65534", "0100644")
    assert stored(gateway, "users")[:2] == ("65534", "2001")
    assert stored(gateway, "shared/")[:2] == ("65534", "2001")
    assert stored(gateway, "l") == ("65534", "65534", "0120777")


@pytest.mark.semantics("root-squash")
def test_what_belongs_to_root_in_the_bucket_is_shown_so(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("f", b"x", Metadata={"file-owner": "0", "file-group": "0", "file-permissions": "0100600"})
    gateway = gateways.mount(bucket, settings={"identity.squash": "all"})
    assert owner(gateway.mount_dir / "f") == (0, 0)
    gateway.mount_dir.chmod(0o777)
    with acting_as(1001, 2001):
        write_file(gateway.mount_dir / "mine")
    assert owner(gateway.mount_dir / "mine") == (NOBODY, NOBODY)
    os.chown(gateway.mount_dir / "f", 1001, 2001)
    assert owner(gateway.mount_dir / "f") == (NOBODY, NOBODY)


@pytest.mark.semantics("root-squash")
def test_a_copy_that_asks_for_root_again_and_again_writes_nothing_to_the_bucket(
    bucket: Bucket, gateways: Gateways, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    for number in range(3):
        write_file(source / f"f{number}", b"x" * number)
    gateway = gateways.mount(bucket, settings={"identity.squash": "root"})
    rsync = ["rsync", "-aHX", "--itemize-changes", f"{source}/", str(gateway.mount_dir / "tree")]
    subprocess.run(rsync, check=True, capture_output=True)
    gateway.drain()
    before = {key: bucket.head(key)["LastModified"] for key in bucket.keys()}  # noqa: SIM118 - not a dict
    written = gateway.status()["s3"]["operations"]
    again = subprocess.run(rsync, check=True, capture_output=True, text=True).stdout
    assert ">f" not in again, "no bytes are transferred"
    gateway.drain()
    assert {key: bucket.head(key)["LastModified"] for key in before} == before
    assert gateway.status()["s3"]["operations"] == written


@pytest.mark.semantics("id-map", "object-metadata")
def test_a_table_stands_between_the_ids_here_and_those_in_the_bucket(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("theirs", b"x", Metadata={"file-owner": "5001", "file-group": "6001", "file-permissions": "0100640"})
    bucket.put("strangers", b"x", Metadata={"file-owner": "1000", "file-group": "77"})
    shared = {"file-owner": "5001", "file-group": "6001", "file-permissions": "0042777"}
    bucket.put("shared/", Metadata=shared)
    table = {"identity.uid_map": "1000=5001,1001=5002", "identity.gid_map": "2000=6001", "metadata.uid": "1001"}
    gateway = gateways.mount(bucket, settings={"identity.squash": "root", **table})
    mount = gateway.mount_dir
    assert owner(mount) == (1001, NOBODY)
    assert owner(mount / "theirs") == (1000, 2000)
    assert owner(mount / "strangers") == (NOBODY, 77)
    mount.chmod(0o777)
    with acting_as(1000, 2000):
        write_file(mount / "mine", b"y")
        os.utime(mount / "mine", ns=(1, 1_700_000_000_123_456_789))
        (mount / "theirs").chmod(0o600)
    with acting_as(1001, 77):
        write_file(mount / "shared" / "f")
    assert owner(mount / "shared" / "f") == (1001, 2000)
    os.chown(mount / "strangers", 1001, 2000)
    assert owner(mount / "mine") == (1000, 2000)
    gateway.drain()
    assert stored(gateway, "mine") == ("5001", "6001", "0100644")
    assert stored(gateway, "theirs") == ("5001", "6001", "0100600")
    assert stored(gateway, "strangers")[:2] == ("5002", "6001")
    assert stored(gateway, "shared/f")[:2] == ("5002", "6001")
    # another gateway, without the table, with an empty cache
    other = gateways.mount(bucket)
    seen = (other.mount_dir / "mine").stat()
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (5001, 6001, 0o644)
    assert seen.st_mtime_ns == 1_700_000_000_123_456_789


@pytest.mark.semantics("forced-owner")
def test_a_forced_owner_and_umask_hold_for_everybody_and_for_what_is_new(bucket: Bucket, gateways: Gateways) -> None:
    bucket.put("old", b"x", Metadata={"file-owner": "7", "file-group": "8", "file-permissions": "0100666"})
    forced = {"identity.force_uid": "1000", "identity.force_gid": "2000", "identity.force_umask": "0027"}
    gateway = gateways.mount(bucket, settings=forced)
    mount = gateway.mount_dir
    assert owner(mount / "old") == (1000, 2000)
    assert stat.S_IMODE((mount / "old").stat().st_mode) == 0o640
    write_file(mount / "new", b"y")
    (mount / "new").chmod(0o777)
    os.chown(mount / "new", 1, 1)
    assert owner(mount / "new") == (1000, 2000)
    os.utime(mount / "old", ns=(5, 5))
    gateway.drain()
    assert stored(gateway, "new") == ("1000", "2000", "0100750")
    assert stored(gateway, "old") == ("7", "8", "0100666")

"""The mount and the bucket, seen from both sides at once: existing objects, other people's changes, no network."""

import errno
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket
from tests.support.syscalls import fails, write_file

Mount = Callable[..., Gateway]


def refresh(served: Gateway) -> None:
    served.verb("refresh-cache", "--wait", str(served.mount_dir))


@pytest.mark.semantics("existing-bucket", "existing-defaults", "attr-nlink")
def test_objects_without_attributes_show_the_shares_defaults(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("dir/deep/file", b"content")
    bucket.put("top", b"x" * 5000)
    served = gateway(settings={"metadata.file_mode": "0640", "metadata.uid": "1234", "metadata.directory_mode": "0750"})
    root = served.mount_dir
    assert (root / "dir").stat().st_nlink == 1, "nobody has counted its subdirectories"
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == [
        "dir",
        "dir/deep",
        "dir/deep/file",
        "top",
    ]
    status = (root / "dir" / "deep" / "file").stat()
    assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o100640", 1234, 65534)
    assert oct((root / "dir").stat().st_mode) == "0o40750"
    served.wait_until(lambda: (root / "dir").stat().st_nlink == 3, 10, "the kernel to forget")
    head = bucket.head("dir/deep/file")
    assert status.st_mtime_ns == int(head["LastModified"].timestamp()) * 10**9
    assert (root / "dir" / "deep" / "file").read_bytes() == b"content"
    served.drain()
    assert bucket.keys() == ["dir/deep/file", "top"], "looking must not write"


@pytest.mark.semantics("existing-dialects")
def test_attributes_are_read_in_every_dialect(bucket: Bucket, gateway: Mount) -> None:
    bucket.put(
        "caps", b"c", Metadata={"File-Permissions": "0100751", "FILE-OWNER": "7", "File-Mtime": "1700000000123ns"}
    )
    bucket.put("ms", b"m", Metadata={"file-permissions": "0100600", "file-mtime": "1700000000123"})
    bucket.put("nonsense", b"n", Metadata={"file-permissions": "rwx", "file-owner": "-5", "file-mtime": "yesterday"})
    bucket.put("link", b"ms", Metadata={"file-permissions": "0120777"})
    bucket.put("marked/", b"", Metadata={"file-permissions": "0040711", "file-owner": "9"})
    root = gateway().mount_dir
    caps, marked = (root / "caps").stat(), (root / "marked").stat()
    assert (oct(caps.st_mode), caps.st_uid, caps.st_mtime_ns) == ("0o100751", 7, 1700000000123)
    assert (root / "ms").stat().st_mtime_ns == 1700000000123 * 10**6
    assert oct((root / "nonsense").stat().st_mode) == "0o100666"
    assert os.readlink(root / "link") == "ms"
    assert (root / "link").read_bytes() == b"m"
    assert (oct(marked.st_mode), marked.st_uid) == ("0o40711", 9)


@pytest.mark.semantics("readdir-types")
def test_find_sees_symlinks_nobody_has_looked_at(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("link", b"file", Metadata={"file-permissions": "0120777"})
    bucket.put("file", b"content")
    bucket.put("dir/inside", b"x")
    root = gateway().mount_dir
    with os.scandir(root) as entries:
        found = {entry.name: (entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in entries}
    assert found == {"link": (True, False), "file": (False, False), "dir": (False, True)}
    assert (root / "link").read_bytes() == b"content"


@pytest.mark.semantics("existing-unrepresentable")
def test_keys_no_path_can_hold_are_counted_and_left_alone(bucket: Bucket, gateway: Mount) -> None:
    odd = ["./dot", "a//b", "file/below", f"{'n' * 256}"]
    for key in [*odd, "file", "plain"]:
        bucket.put(key, key.encode())
    served = gateway()
    root = served.mount_dir
    assert sorted(os.listdir(root)) == ["a", "file", "plain"]
    assert os.listdir(root / "a") == []
    assert os.listdir(root / "file") == ["below"], "where a file and a directory have one name, the directory is seen"
    write_file(root / "plain", b"changed")
    served.drain()
    metadata = served.status()["metadata"]
    assert metadata["unrepresentable"] == 3
    assert metadata["shadowed"] == 1
    assert {key: bucket.body(key) for key in [*odd, "file"]} == {key: key.encode() for key in [*odd, "file"]}


@pytest.mark.semantics("hidden-keys")
def test_a_directory_with_keys_that_are_not_shown_is_not_empty(bucket: Bucket, gateway: Mount) -> None:
    hidden = ["d/sub//odd", "d/../up", "moved/./dot"]
    for key in [*hidden, "d/file", "moved/file"]:
        bucket.put(key, key.encode())
    served = gateway()
    root = served.mount_dir
    done = subprocess.run(["rm", "-rf", root / "d"], capture_output=True, text=True, check=False)
    assert "not empty" in done.stderr
    assert os.listdir(root / "d") == ["sub"]
    os.rename(root / "moved", root / "elsewhere")
    served.drain()
    assert sorted(bucket.keys()) == sorted([*hidden, "elsewhere/file"])
    assert "are not shown" in served.log_path.read_text()

    bucket.delete("d/sub//odd")
    bucket.delete("d/../up")
    os.rmdir(root / "d" / "sub")
    os.rmdir(root / "d")
    served.drain()
    assert bucket.keys("d/") == []


@pytest.mark.semantics("foreign-metadata-kept")
def test_what_others_put_on_an_object_survives_edits_chmod_and_rename(bucket: Bucket, gateway: Mount) -> None:
    for name in ("edited", "chmodded", "renamed"):
        bucket.put(
            name, b"<p>", ContentType="text/html", CacheControl="max-age=5", Metadata={"colour": "blue", "x.y-z": "1"}
        )
    bucket.put("full/marker/", b"data in a marker")
    modified = int(bucket.head("renamed")["LastModified"].timestamp()) * 10**9
    served = gateway()
    root = served.mount_dir
    os.rename(root / "full", root / "moved")
    with (root / "edited").open("ab") as stream:
        stream.write(b"more")
    os.chmod(root / "chmodded", 0o600)
    os.rename(root / "renamed", root / "new name")
    served.drain()
    for key in ("edited", "chmodded", "new name"):
        head = bucket.head(key)
        assert (head["ContentType"], head["CacheControl"]) == ("text/html", "max-age=5"), key
        assert {"colour": "blue", "x.y-z": "1"}.items() <= bucket.metadata(key).items(), key
    assert os.getxattr(root / "new name", "user.colour") == b"blue"
    assert bucket.body("edited") == b"<p>more"
    assert bucket.metadata("new name")["file-mtime"] == f"{modified}ns", "LastModified is now, the time is not"
    assert bucket.body("moved/marker/") == b"data in a marker"


@pytest.mark.semantics("emptied-directory")
def test_a_directory_that_only_keys_made_survives_its_last_file(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("implicit/only", b"x")
    served = gateway()
    os.unlink(served.mount_dir / "implicit" / "only")
    assert os.listdir(served.mount_dir) == ["implicit"]
    served.drain()
    assert bucket.keys() == ["implicit/"]


@pytest.mark.semantics("root-directory")
def test_the_root_keeps_its_attributes_here_and_writes_no_object(bucket: Bucket, gateway: Mount) -> None:
    served = gateway()
    os.chmod(served.mount_dir, 0o2751)
    os.chown(served.mount_dir, 1001, 1002)
    write_file(served.mount_dir / "f")
    served.drain()
    assert bucket.keys() == ["f"]
    served.umount()
    served.start()
    status = served.mount_dir.stat()
    assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o42751", 1001, 1002)


@pytest.mark.parametrize("versioned", [False, True], ids=["", "with versions and delete markers"])
@pytest.mark.semantics("foreign-changes")
def test_changes_of_others_appear_after_refresh_cache_in_names_attributes_and_pages(
    bucket: Bucket, gateway: Mount, versioned: bool
) -> None:
    if versioned:
        bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    bucket.put("replaced", b"old " * 5000)
    bucket.put("dir/removed", b"x")
    served = gateway()
    root = served.mount_dir
    assert (root / "replaced").read_bytes() == b"old " * 5000
    assert os.listdir(root / "dir") == ["removed"]
    with fails(errno.ENOENT):
        os.stat(root / "added")
    held = os.open(root / "replaced", os.O_RDONLY)
    assert os.pread(held, 4, 0) == b"old "

    bucket.put("replaced", b"new " * 6000, Metadata={"file-permissions": "0100600"})
    bucket.put("added", b"added")
    bucket.put("dir/other", b"y")
    bucket.delete("dir/removed")
    assert (root / "replaced").read_bytes() == b"old " * 5000, "until told, what was listed counts"
    refresh(served)
    assert (root / "replaced").stat().st_size == 24000, "at once"
    assert (root / "replaced").read_bytes() == b"new " * 6000
    assert oct((root / "replaced").stat().st_mode) == "0o100600"
    assert (root / "added").read_bytes() == b"added"
    assert os.listdir(root / "dir") == ["other"]
    assert os.pread(held, 4, 0) == b"new ", "who has it open goes on with what is there"
    os.close(held)
    assert (root / "replaced").read_bytes() == b"new " * 6000


@pytest.mark.semantics("foreign-changes")
def test_a_file_becomes_a_directory_of_its_name_and_a_file_again(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("name", b"a file")
    served = gateway()
    name = served.mount_dir / "name"
    assert name.read_bytes() == b"a file"
    bucket.delete("name")
    bucket.put("name/inside", b"x")
    refresh(served)
    assert os.listdir(name) == ["inside"]
    assert (name / "inside").read_bytes() == b"x"
    bucket.delete("name/inside")
    bucket.put("name", b"a FILE")
    refresh(served)
    assert name.read_bytes() == b"a FILE"
    assert os.listdir(served.mount_dir) == ["name"]


@pytest.mark.semantics("conflict-kept")
def test_when_both_sides_changed_a_file_both_versions_stay(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("report", b"base")
    served = gateway(settings={"upload.settle": "60s", "upload.settle_max": "60s"})
    root = served.mount_dir
    assert (root / "report").read_bytes() == b"base"
    (root / "report").write_bytes(b"ours")
    bucket.put("report", b"theirs")
    served.drain()
    names = sorted(os.listdir(root))
    assert len(names) == 2
    assert names[0] == "report"
    assert names[1].startswith("report.conflict-")
    assert {name: (root / name).read_bytes() for name in names} == {"report": b"theirs", names[1]: b"ours"}
    assert {key: bucket.body(key) for key in bucket.keys("")} == {"report": b"theirs", names[1]: b"ours"}


@pytest.mark.semantics("conflict-deletion")
def test_deleting_what_others_changed_keeps_theirs(bucket: Bucket, gateway: Mount) -> None:
    bucket.put("f", b"base")
    served = gateway(settings={"upload.settle": "60s", "upload.settle_max": "60s"})
    os.unlink(served.mount_dir / "f")
    bucket.put("f", b"theirs")
    served.drain()
    assert bucket.body("f") == b"theirs"
    refresh(served)
    assert os.listdir(served.mount_dir) == ["f"]
    assert (served.mount_dir / "f").read_bytes() == b"theirs"


@pytest.mark.semantics("without-network")
def test_without_the_network_what_is_here_goes_on_and_drains_later(
    bucket: Bucket, gateway: Mount, moto_endpoint: str
) -> None:
    bucket.put("cached", b"cached")
    bucket.put("cold", b"c" * 200_000)
    with Link(moto_endpoint) as link:
        served = gateway(endpoint_url=link.url, settings={"metadata.deadline": "2s"})
        root: Path = served.mount_dir
        assert (root / "cached").read_bytes() == b"cached"
        os.stat(root / "cold")
        link.refuse()
        with fails(errno.EIO):
            (root / "cold").read_bytes()
        write_file(root / "written", b"w" * 100_000)
        os.rename(root / "written", root / "renamed")
        (root / "dir").mkdir()
        assert (root / "cached").read_bytes() == b"cached"
        assert (root / "renamed").read_bytes() == b"w" * 100_000
        served.kill9()
        served.start()
        assert sorted(os.listdir(root)) == ["cached", "cold", "dir", "renamed"]
        assert bucket.keys() == ["cached", "cold"]
        link.join()
        served.drain()
        assert bucket.keys() == ["cached", "cold", "dir/", "renamed"]
        assert (root / "cold").read_bytes() == b"c" * 200_000


@pytest.mark.semantics("drain")
def test_after_drain_wait_everything_written_before_is_in_the_bucket(bucket: Bucket, gateway: Mount) -> None:
    served = gateway(settings={"upload.settle": "1h", "upload.settle_max": "1h"})
    for number in range(50):
        write_file(served.mount_dir / f"f{number}", b"%d" % number)
    open_still = os.open(served.mount_dir / "open", os.O_CREAT | os.O_WRONLY)
    os.write(open_still, b"so far")
    assert bucket.keys() == []
    served.drain()
    assert len(bucket.keys()) == 51
    assert bucket.body("open") == b"so far"
    os.write(open_still, b", and more")
    os.close(open_still)
    served.drain()
    assert bucket.body("open") == b"so far, and more"


@pytest.mark.semantics("directory-times")
def test_times_of_a_directory_travel_when_they_are_set(bucket: Bucket, gateway: Mount) -> None:
    served = gateway()
    (served.mount_dir / "d").mkdir()
    served.drain()
    write_file(served.mount_dir / "d" / "f")
    served.drain()
    os.utime(served.mount_dir / "d", ns=(10**18, 10**18 + 5))
    served.drain()
    assert bucket.metadata("d/")["file-mtime"] == f"{10**18 + 5}ns"


@pytest.mark.semantics("refresh-jobs")
def test_a_refresh_outlives_an_outage_and_the_daemon(bucket: Bucket, gateway: Mount, moto_endpoint: str) -> None:
    bucket.put("dir/old", b"x")
    with Link(moto_endpoint) as link:
        served = gateway(endpoint_url=link.url)
        where = str(served.mount_dir)
        assert os.listdir(served.mount_dir / "dir") == ["old"]
        bucket.put("dir/new", b"x")
        link.cut()
        identity = served.verb("refresh-cache", where, "--folder", "dir").stdout.strip()
        served.kill9()
        served.start()
        link.join()

        def jobs(kind: str) -> list[str]:
            listed = json.loads(served.verb("refresh-cache", where, "--list", "--json").stdout)
            return [job["notification_id"] for job in listed[kind] if job["state"] in ("running", "done")]

        served.wait_until(lambda: jobs("recent") == [identity], 90, "the refresh of the life before")
        assert jobs("running") == []
        assert sorted(os.listdir(served.mount_dir / "dir")) == ["new", "old"]


@pytest.mark.semantics("refresh-ttl")
def test_with_a_ttl_what_others_change_shows_to_whoever_looks(bucket: Bucket, gateway: Mount) -> None:
    """Past the kernel's caches: names, attributes, pages, and the absence of names."""
    bucket.put("dir/replaced", b"old")
    bucket.put("dir/removed", b"x")
    served = gateway(settings={"refresh.ttl": "1s"})
    root = served.mount_dir / "dir"
    assert (root / "replaced").read_bytes() == b"old"
    assert sorted(os.listdir(root)) == ["removed", "replaced"]
    with fails(errno.ENOENT):
        os.stat(root / "added")
    bucket.put("dir/replaced", b"newer")
    bucket.put("dir/added", b"added")
    bucket.delete("dir/removed")
    time.sleep(1.1)
    assert (root / "replaced").stat().st_size == 5, "looked up anew, and waited for"
    assert (root / "replaced").read_bytes() == b"newer"
    assert sorted(os.listdir(root)) == ["added", "replaced"]
    assert (root / "added").read_bytes() == b"added"
    with fails(errno.ENOENT):
        os.stat(root / "removed")

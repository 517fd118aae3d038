"""Ordinary programs on a mount of a bucket on the production server, then the bucket, then a second gateway.

The same programs as in tests/mount, with what only a real server shows: its conditions, its multipart uploads, its
listings, its own idea of metadata. A second gateway with an empty cache must see exactly the tree the first one left.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import applications
from tests.support.applications import ALL, assert_same, run
from tests.support.bucketcompare import compare_with_bucket
from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

Mount = Callable[..., Gateway]


@pytest.mark.timeout(600)
def test_every_program_works_and_its_files_are_in_the_bucket(bucket: Bucket, gateway: Mount, tmp_path: Path) -> None:
    served = gateway()
    for application in ALL:
        if application is applications.git and not shutil.which("git"):
            continue
        work, scratch = served.mount_dir / application.__name__, tmp_path / application.__name__
        work.mkdir()
        scratch.mkdir()
        application(work, scratch)
    served.drain()
    for application in ALL:
        compare_with_bucket(bucket, f"{application.__name__}/", served.mount_dir / application.__name__)
    assert served.status()["upload"]["conflicts"] == 0


def test_a_second_gateway_sees_what_the_first_one_wrote(bucket: Bucket, gateway: Mount, tmp_path: Path) -> None:
    first = gateway()
    run("tar", "-xpf", sample_archive(tmp_path), cwd=first.mount_dir)
    (first.mount_dir / "large").write_bytes(os.urandom(20 << 20))
    first.umount()
    second = gateway()
    assert_same(tmp_path / "source", second.mount_dir / "source")
    assert run("tar", "-df", tmp_path / "source.tar", cwd=second.mount_dir) == ""
    assert (second.mount_dir / "large").read_bytes() == bucket.body("large")


def sample_archive(scratch: Path) -> Path:
    applications.sample_tree(scratch / "source")
    run("tar", "--format=posix", "-cpf", "source.tar", "source", cwd=scratch)
    return scratch / "source.tar"


def test_a_large_file_goes_up_in_parts_and_an_edit_and_a_rename_follow(bucket: Bucket, gateway: Mount) -> None:
    served = gateway(settings={"upload.part_size": "5MiB"})
    data = bytearray(os.urandom(23 << 20))
    file = served.mount_dir / "large"
    file.write_bytes(data)
    served.drain()
    assert bucket.head("large")["ETag"].strip('"').endswith("-5")
    with file.open("r+b") as stream:
        stream.seek(11 << 20)
        stream.write(b"edited")
    data[11 << 20 : (11 << 20) + 6] = b"edited"
    os.truncate(file, 22 << 20)
    os.rename(file, served.mount_dir / "renamed")
    served.drain()
    assert bucket.keys() == ["renamed"]
    assert bucket.body("renamed") == data[: 22 << 20]
    assert bucket.s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_an_editors_save_leaves_one_version(bucket: Bucket, gateway: Mount, tmp_path: Path) -> None:
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    served = gateway()
    applications.editor(served.mount_dir, tmp_path)
    served.drain()
    listed = bucket.s3.list_object_versions(Bucket=bucket.name)
    assert [entry["Key"] for entry in listed["Versions"]] == ["notes.txt"]
    assert listed.get("DeleteMarkers", []) == []

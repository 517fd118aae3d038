"""Ordinary programs on the mount, in a quick form; tests/e2e runs them against the production server."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import applications
from tests.support.applications import ALL, Application, run, sample_tree
from tests.support.bucketcompare import compare_with_bucket
from tests.support.gateway import Gateway
from tests.support.s3server import Bucket
from tests.support.syscalls import write_file

NEEDS = {applications.git: "git", applications.rsync: "rsync", applications.make: "gcc"}


@pytest.mark.semantics("object-per-file", "object-metadata")
@pytest.mark.parametrize("application", ALL, ids=lambda application: application.__name__)
def test_a_program_works_on_the_mount_and_its_files_are_in_the_bucket(
    application: Application, mounted: Gateway, work: Path, tmp_path: Path
) -> None:
    needed = NEEDS.get(application, "")
    if needed and not shutil.which(needed):
        pytest.skip(f"needs {needed}")
    application(work, tmp_path)
    mounted.drain()
    compare_with_bucket(mounted.bucket, f"{work.name}/", work)


@pytest.mark.semantics("one-version-per-settled-file")
def test_an_editors_save_leaves_one_version_of_one_object(bucket: Bucket, gateway: Callable[..., Gateway]) -> None:
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    served = gateway()
    write_file(served.mount_dir / "notes.txt", b"the first version")
    served.drain()
    for number in range(3):
        temporary = write_file(served.mount_dir / ".notes.txt.tmp", b"saved %d" % number, mode=0o600)
        fd = os.open(temporary, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        os.chmod(temporary, 0o644)
        os.rename(temporary, served.mount_dir / "notes.txt")
    served.drain()
    listed = bucket.s3.list_object_versions(Bucket=bucket.name)
    versions = [(entry["Key"], entry["IsLatest"]) for entry in listed.get("Versions", [])]
    assert versions == [("notes.txt", True), ("notes.txt", False)]
    assert listed.get("DeleteMarkers", []) == []
    assert bucket.body("notes.txt") == b"saved 2"
    assert bucket.metadata("notes.txt")["file-permissions"] == "0100644"


@pytest.mark.semantics("object-metadata", "existing-bucket")
def test_a_gateway_with_an_empty_cache_sees_what_another_wrote(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    if not shutil.which("rsync"):
        pytest.skip("needs rsync")
    source = sample_tree(tmp_path / "source")
    first = gateway()
    command = ("rsync", "-aHX", "--itemize-changes", f"{source}/")
    run(*command, f"{first.mount_dir}/copy/", cwd=tmp_path)
    first.umount()
    second = gateway()
    # Names, sizes, times, modes, owners, link targets and xattrs, all from the bucket: nothing to transfer.
    assert run(*command, f"{second.mount_dir}/copy/", cwd=tmp_path) == ""
    assert run(*command[:3], "--checksum", command[3], f"{second.mount_dir}/copy/", cwd=tmp_path) == ""

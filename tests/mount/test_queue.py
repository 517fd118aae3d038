"""`gatewayfs queue` and `upload.exclude` on a mounted share, and what a versioned bucket tells of saving programs."""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

WAIT_S = 30


def queue(share: Gateway, action: str, *paths: str) -> str:
    return share.verb("queue", action, str(share.mount_dir), *paths).stdout


def states(share: Gateway) -> dict[str, str]:
    lines = queue(share, "ls", "--json").splitlines()
    return {entry["path"]: entry["state"] for entry in map(json.loads, lines)}


@pytest.mark.semantics("hold")
def test_a_held_directory_waits_for_its_release_across_a_crash(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    share = gateway(settings={"upload.settle": "100ms"})
    incoming = share.mount_dir / "incoming"
    incoming.mkdir()
    share.drain()
    assert "held since" in queue(share, "hold", str(incoming))
    (incoming / "a").write_bytes(b"a")
    (share.mount_dir / "free").write_bytes(b"f")
    os.rename(share.mount_dir / "free", share.mount_dir / "went")
    share.wait_until(lambda: bucket.keys()[1:] == ["went"], WAIT_S, "what is not held")
    share.kill9()
    share.start()
    (incoming / "b").write_bytes(b"b")
    share.wait_until(lambda: list(states(share).values()) == ["held", "held"], WAIT_S, "both to be held")
    assert bucket.keys() == ["incoming/", "went"]
    assert any("incoming are held since" in problem for problem in share.status()["problems"])
    for verb in ("drain --wait", "umount"):
        name, *options = verb.split()
        told = share.verb(name, *options, str(share.mount_dir), check=False)
        assert told.returncode == 5
        assert "2 changes held; gatewayfs queue release lets them go" in told.stdout
    assert "no such file" in share.verb("queue", "hold", str(share.mount_dir), "nowhere", check=False).stderr
    assert queue(share, "release") == "nothing is held\n"
    share.drain()
    assert bucket.keys() == ["incoming/", "incoming/a", "incoming/b", "went"]
    assert queue(share, "ls") == "nothing is queued\n"


@pytest.mark.semantics("excluded-names")
def test_names_that_match_a_pattern_stay_here_and_come_and_go_by_renames(
    gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    share = gateway(settings={"upload.settle": "100ms", "upload.exclude": "*.part,.nfs*"})
    root = share.mount_dir
    (root / "a.part").write_bytes(b"aaa")
    (root / "b").write_bytes(b"bbb")
    share.drain()
    assert bucket.keys() == ["b"]
    os.rename(root / "a.part", root / "a")
    os.rename(root / "b", root / ".nfs1")
    share.drain()
    share.wait_until(lambda: bucket.keys() == ["a"], WAIT_S, "the object of the renamed file to go")
    share.kill9()
    shutil.rmtree(share.cache_dir / "meta")
    share.verb("recover", "--cache-dir", str(share.cache_dir))
    share.start()
    assert (root / ".nfs1").read_bytes() == b"bbb"
    share.wait_until(lambda: share.status()["upload"]["excluded"]["files"] == 1, WAIT_S, "it to be counted")
    assert share.status()["upload"]["entries"] == 0
    assert bucket.keys() == ["a"]


def versions(bucket: Bucket) -> tuple[Counter[str], Counter[str]]:
    """How many versions, and delete markers, each key has."""
    found: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for page in bucket.s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name):
        for place, what in enumerate(("Versions", "DeleteMarkers")):
            found[place].update(version["Key"] for version in page.get(what, ()))
    return found


def a_tree(top: Path, files: int) -> list[str]:
    made = []
    for number in range(files):
        directory = top / f"d{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        name = f"d{number % 7}/file {number}.txt"
        (top / name).write_bytes(b"%d\n" % number * (number * 37 % 4000 + 1))
        os.utime(top / name, ns=(10**18 + number, 10**18 + number))
        made.append(name)
    (top / "d0/large.bin").write_bytes(os.urandom(9 << 20))
    return [*made, "d0/large.bin"]


@pytest.mark.semantics("one-version-per-settled-file")
def test_rsync_cp_tar_and_an_editor_leave_one_version_of_each_file_and_of_nothing_else(
    gateway: Callable[..., Gateway], bucket: Bucket, tmp_path: Path
) -> None:
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    share = gateway()
    source, root = tmp_path / "source", share.mount_dir
    names = a_tree(source, 700)
    subprocess.run(["tar", "-C", str(source), "-cf", str(tmp_path / "t.tar"), "."], check=True)
    # Each works while the files of the one before go up.
    subprocess.run(["rsync", "-a", f"{source}/", str(root / "rsync")], check=True)
    subprocess.run(["cp", "-a", str(source), str(root / "cp")], check=True)
    (root / "tar").mkdir()
    subprocess.run(["tar", "-C", str(root / "tar"), "-xf", str(tmp_path / "t.tar")], check=True)
    share.drain(timeout_s=300)
    tops = ("rsync", "cp", "tar")
    found, deleted = versions(bucket)
    files = {f"{top}/{name}": 1 for top in tops for name in names}
    assert {key: count for key, count in found.items() if not key.endswith("/")} == files
    assert deleted == {}
    edited = root / "rsync" / names[0]
    for save in range(2):
        (edited.parent / ".edited.swp").write_bytes(b"version %d" % save)
        os.replace(edited.parent / ".edited.swp", edited)
        (edited.parent / ".edited.swp").write_bytes(b"recovery data")
        (edited.parent / ".edited.swp").unlink()
        share.drain()
    found, deleted = versions(bucket)
    assert found[f"rsync/{names[0]}"] == 3
    assert sum(found[key] for key in files) == len(files) + 2
    assert [key for key in found if "swp" in key] == []
    assert deleted == {}

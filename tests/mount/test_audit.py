"""The audit log and the health log of a mounted share."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway
from tests.support.syscalls import write_file


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_who_did_what_is_in_the_audit_log(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    served = gateway(settings={"audit.file": str(file), "identity.squash": "none"})
    root = served.mount_dir
    (root / "dir").mkdir(mode=0o750)
    write_file(root / "dir" / "a", b"content", mode=0o640)
    os.chmod(root / "dir" / "a", 0o600)
    file.rename(tmp_path / "audit.jsonl.1")
    with (root / "dir" / "a").open("rb") as opened:
        assert opened.read(3) + opened.read() == b"content"
    os.rename(root / "dir" / "a", root / "b")
    os.truncate(root / "b", 3)
    os.unlink(root / "b")
    os.rmdir(root / "dir")
    # Still one line for each, however many writes and reads there are to one open.
    served.umount()
    lines = lines_of(tmp_path / "audit.jsonl.1") + lines_of(file)
    assert [(line["operation"], line["objectName"], line["newObjectName"]) for line in lines] == [
        ("Create", "/dir", ""),
        ("Create", "/dir/a", ""),
        ("Write Data", "/dir/a", ""),
        ("Write Attributes", "/dir/a", ""),
        ("Read Data", "/dir/a", ""),
        ("Rename", "/dir/a", "/b"),
        ("Write Data", "/b", ""),
        ("Delete", "/b", ""),
        ("Delete", "/dir", ""),
    ]
    assert {line["status"] for line in lines} == {"Success"}
    assert {(line["clientUid"], line["clientGid"]) for line in lines} == {("0", "0")}
    deleted = lines[-2]
    assert deleted["objectType"] == "file"
    assert deleted["accessMode"] == "0600"
    assert deleted["ownerId"] == "0"
    assert deleted["fileSizeInBytes"] == "3"
    assert deleted["bucket"] == served.bucket.name
    assert deleted["mtime"].isdigit()


def test_what_is_refused_here_is_in_the_audit_log_and_losses_are_in_status(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    home = tmp_path / "logs"
    home.mkdir()
    file, health = home / "audit.jsonl", tmp_path / "health.jsonl"
    served = gateway(settings={"audit.file": str(file), "health.file": str(health)})
    write_file(served.mount_dir / "a")
    served.wait_until(lambda: len(lines_of(file)) == 1, 30, "the first line")
    file.unlink()
    home.rmdir()
    write_file(served.mount_dir / "b")
    served.wait_until(lambda: served.status()["logs"]["audit"]["dropped"] >= 1, 30, "the loss to be counted")
    (problem,) = served.status()["problems"]
    assert "lines of the audit log were lost: No such file or directory" in problem
    assert "audit.file" in problem
    # The first start of a share is nothing to tell; a start after kill -9 and one after a stop are.
    served.kill9()
    home.mkdir()
    served.start()
    served.terminate()
    served.start()
    served.umount()
    assert [line["type"] for line in lines_of(health) if line["type"].endswith("eboot")] == ["HardReboot", "Reboot"]
    assert "HardReboot: the gateway before this one had ended without being stopped" in served.log()


def test_links_and_extended_attributes_have_their_lines_one_write_stands_for_all_and_the_reader_is_named(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    served = gateway(settings={"audit.file": str(file), "identity.squash": "none"})
    root = served.mount_dir
    with (root / "a").open("wb", buffering=0) as opened:
        opened.write(b"one")
        opened.write(b"two")
    os.symlink("a", root / "b")
    os.setxattr(root / "a", "user.x", b"1")
    os.removexattr(root / "a", "user.x")
    (root / "a").chmod(0o666)
    subprocess.run(["cat", "a"], cwd=root, user=1234, group=1235, check=True, stdout=subprocess.DEVNULL)
    served.umount()
    lines = lines_of(file)
    assert [(line["operation"], line["objectName"], line["clientUid"]) for line in lines] == [
        ("Create", "/a", "0"),
        ("Write Data", "/a", "0"),
        ("Create", "/b", "0"),
        ("Write Attributes", "/a", "0"),
        ("Write Attributes", "/a", "0"),
        ("Write Attributes", "/a", "0"),
        ("Read Data", "/a", "1234"),
    ]
    assert lines[-1]["clientGid"] == "1235"

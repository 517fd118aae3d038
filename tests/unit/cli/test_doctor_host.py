"""The doctor's look at the machine: every verdict from given facts."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from gatewayfs import mountpoint
from gatewayfs.cli import doctor_host as host
from gatewayfs.cli.doctor import exit_code
from gatewayfs.cli.findings import Finding, Verdict, fail, ok, warning

ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def verdicts(findings: Iterable[Finding]) -> dict[str, Verdict]:
    return {finding.subject: finding.verdict for finding in findings}


@pytest.mark.parametrize(
    "release, filesystems, verdict",
    [
        ("6.18.4", "nodev\tfuse\n", Verdict.OK),
        ("5.4.0-1", "nodev\tfuse\n", Verdict.OK),
        ("4.19.0", "nodev\tfuse\n", Verdict.WARNING),
        ("unknown", "nodev\tfuse\n", Verdict.WARNING),
        ("6.18.4", "\text4\nnodev\tfusectl\n", Verdict.FAIL),
    ],
)
def test_the_kernel(release: str, filesystems: str, verdict: Verdict, tmp_path: Path) -> None:
    assert host.check_kernel(release, written(tmp_path / "f", filesystems)).verdict is verdict


def test_the_fuse_device(tmp_path: Path) -> None:
    missing = host.check_fuse_device(tmp_path / "fuse")
    assert (missing.verdict, "modprobe fuse" in missing.cure) == (Verdict.FAIL, True)
    assert "is not the FUSE device" in host.check_fuse_device(written(tmp_path / "fuse", "")).text
    assert "is not the FUSE device" in host.check_fuse_device(Path("/dev/null")).text


def test_fusermount3_matters_most_to_those_who_are_not_root(tmp_path: Path) -> None:
    assert host.check_fusermount(None, 0).verdict is Verdict.WARNING
    assert host.check_fusermount(None, 1000).verdict is Verdict.FAIL
    program = written(tmp_path / "fusermount3", "")
    program.chmod(0o755)
    assert host.check_fusermount(str(program), 0).verdict is Verdict.OK
    assert "not setuid" in host.check_fusermount(str(program), 1000).text
    program.chmod(0o4755)
    assert host.check_fusermount(str(program), 1000).verdict is Verdict.OK


def test_permissions(tmp_path: Path) -> None:
    status, conf = written(tmp_path / "status", ALL_CAPABILITIES), tmp_path / "fuse.conf"

    def verdict(euid: int, allow_other: bool) -> Verdict:
        return host.check_permissions(euid, status, conf, allow_other=allow_other).verdict

    assert verdict(0, True) is Verdict.OK
    assert verdict(1000, False) is Verdict.OK
    assert verdict(1000, True) is Verdict.FAIL
    written(conf, "# user_allow_other\n")
    assert verdict(1000, True) is Verdict.FAIL
    written(conf, "user_allow_other\n")
    assert verdict(1000, True) is Verdict.OK
    written(status, "CapEff:\t00000000a80425fb\n")  # a container's usual set
    assert verdict(0, True) is Verdict.FAIL


def test_a_kernel_that_gives_up_before_we_do(tmp_path: Path) -> None:
    assert list(host.check_request_timeouts(tmp_path, 30)) == []
    written(tmp_path / "default_request_timeout", "0\n")
    written(tmp_path / "max_request_timeout", "600\n")
    assert list(host.check_request_timeouts(tmp_path, 30)) == []
    (found,) = host.check_request_timeouts(tmp_path, 595)
    assert "fs.fuse.max_request_timeout=655" in found.cure


def test_a_good_cache_disk_and_one_that_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "mount_table", lambda: [mountpoint.Mounted("/", "ext4", "/dev/sda")])
    monkeypatch.setattr(host, "FREE_BYTES_WARNING", 0)
    monkeypatch.setattr(host, "FSYNC_S_WARNING", 60)
    tmp_path.chmod(0o700)
    for directory in (tmp_path, tmp_path / "not" / "yet"):
        assert set(verdicts(host.check_cache(directory)).values()) == {Verdict.OK}
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_cache_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [mountpoint.Mounted("/", "ext4", "/dev/sda"), mountpoint.Mounted(str(tmp_path), "tmpfs", "tmpfs")]
    monkeypatch.setattr(mountpoint, "mount_table", lambda: mounts)
    monkeypatch.setattr(host, "FREE_BYTES_WARNING", 1 << 62)
    monkeypatch.setattr(host, "FSYNC_S_WARNING", 0)
    tmp_path.chmod(0o755)
    assert verdicts(host.check_cache(tmp_path)) == {
        "cache disk": Verdict.WARNING,
        "cache space": Verdict.WARNING,
        "cache access": Verdict.WARNING,
        "cache writable": Verdict.WARNING,
    }
    monkeypatch.setattr(host, "FREE_BYTES_FAIL", 1 << 62)
    assert verdicts(host.check_cache(tmp_path))["cache space"] is Verdict.FAIL
    file = written(tmp_path / "file", "")
    assert verdicts(host.check_cache(file / "cache")) == {"cache": Verdict.FAIL}


def test_a_cache_disk_that_cannot_be_written() -> None:
    found = verdicts(host.check_cache(Path("/proc/1/fdinfo") if os.geteuid() == 0 else Path("/root-only")))
    assert found["cache writable"] is Verdict.FAIL


def test_the_mount_directory(tmp_path: Path) -> None:
    assert host.check_mount_directory(tmp_path).verdict is Verdict.OK
    assert host.check_mount_directory(tmp_path / "missing").verdict is Verdict.FAIL
    written(tmp_path / "x", "")
    assert host.check_mount_directory(tmp_path).verdict is Verdict.WARNING


def test_the_exit_status_is_the_worst_findings() -> None:
    assert exit_code([ok("a", "")]) == 0
    assert exit_code([ok("a", ""), warning("b", "", "cure"), ok("c", "")]) == 6
    assert exit_code([fail("a", "", "cure"), warning("b", "", "cure")]) == 1

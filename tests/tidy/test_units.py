"""The units in systemd/: systemd understands them, they are as closed as a FUSE mount allows, the samples are right."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gatewayfs.config import load
from tests.tidy.sources import ROOT

UNITS = ROOT / "systemd"
EXPOSURE_MAX = 45
"""In tenths, as --threshold takes it. What is missing to less needs a mount namespace, which would hide the mount."""

HIDES_THE_MOUNT = re.compile(
    r"^(Private(Tmp|Devices|Mounts|IPC|Users)|Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc)"
    r"|ProcSubset|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|BindPaths|TemporaryFileSystem|RootDirectory|RootImage"
    r"|DynamicUser|MountFlags|MountImages|LogNamespace)=",
    re.MULTILINE,
)

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are installed: with a program that exists."""
    program = tmp_path / "gatewayfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in [*UNITS.glob("gatewayfs*.service"), *UNITS.glob("*.target")]:
        (tmp_path / unit.name).write_text(
            re.sub(r"^(Exec\w+=)gatewayfs", rf"\1{program}", unit.read_text(), flags=re.M)
        )
    return tmp_path


@needs_analyze
@pytest.mark.may_skip
def test_systemd_takes_the_units_without_a_word(installed: Path) -> None:
    units = sorted(map(str, installed.glob("gatewayfs*.*")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "gatewayfs" in line]
    assert said == []


@needs_analyze
@pytest.mark.may_skip
def test_the_service_is_hardened(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
    done = subprocess.run(
        [*command, str(installed / "gatewayfs@.service")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_no_option_gives_the_service_a_mount_namespace_which_would_hide_the_mount() -> None:
    assert HIDES_THE_MOUNT.findall((UNITS / "gatewayfs@.service").read_text()) == []
    assert HIDES_THE_MOUNT.findall("[Service]\nPrivateTmp=yes\n")


def ordered(unit: str, option: str) -> set[str]:
    """The units that one is before, or after."""
    lines = re.findall(rf"^{option}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_shares_start_before_nfs_and_end_after_it_and_after_what_a_shutdown_takes_away() -> None:
    """At a stop the order is that of the start, backwards. A target orders nothing while nobody wants it."""
    assert {"gatewayfs-nfs.service", "nfs-ganesha.service", "gatewayfs.target"} <= ordered(
        "gatewayfs@.service", "Before"
    )
    assert {"network-online.target", "nss-lookup.target"} <= ordered("gatewayfs@.service", "After")
    assert "/var/cache/gatewayfs" in ordered("gatewayfs@.service", "RequiresMountsFor")
    for unit in ("gatewayfs-nfs.service", "nfs-ganesha.service.d/gatewayfs.conf"):
        assert "gatewayfs.target" in ordered(unit, "After")


def test_the_service_may_take_as_long_to_stop_as_its_drain() -> None:
    unit = (UNITS / "gatewayfs@.service").read_text()
    drain_min = re.search(r"--timeout=(\d+)m", unit)
    stop_min = re.search(r"TimeoutStopSec=(\d+)min", unit)
    assert drain_min is not None
    assert stop_min is not None
    assert int(stop_min[1]) >= int(drain_min[1]) + 1, "the drain, and a minute for the end (umount.END_S_MAX)"


def test_the_sample_share_is_a_share(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    keys.chmod(0o440)
    text = (UNITS / "share.toml.example").read_text()
    # Every line that is commented out is right, too.
    whole = tmp_path / "share.toml"
    whole.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M))
    for file in (UNITS / "share.toml.example", whole):
        config = load(file, env={"CREDENTIALS_DIRECTORY": str(tmp_path)}, euid=0)
        assert config.s3.credentials_file == keys
        assert config.share.name == "photos"


def test_every_file_here_is_installed_and_uninstalled(tmp_path: Path) -> None:
    script = [str(ROOT / "scripts" / "install.sh")]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DESTDIR": str(tmp_path), "PREFIX": "/usr"}
    subprocess.run([*script, "install"], env=env, check=True, capture_output=True)
    contents = sorted(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert contents == sorted(file.read_bytes() for file in UNITS.rglob("*") if file.is_file())
    assert (tmp_path / "usr/lib/systemd/system/gatewayfs@.service").exists()
    subprocess.run([*script, "uninstall"], env=env, check=True, capture_output=True)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []

"""Which gateways run, and what is said when they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayfs.control.client import GatewayGone
from gatewayfs.control.registry import Registration, Registry, process_start_ticks, runtime_directory
from gatewayfs.errors import UserError


def entry(share: str = "photos", mountpoint: str = "/mnt/photos", pid: int | None = None) -> Registration:
    return Registration(
        share=share,
        mountpoint=mountpoint,
        pid=os.getpid() if pid is None else pid,
        socket=f"/run/x/{share}.sock",
        cache_directory="/var/cache/gatewayfs/photos",
        bucket="company-photos",
        prefix="site-a/",
        started="2026-01-02T03:04:05Z",
    )


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "run")


def test_a_gateway_is_found_by_name_and_by_directory(registry: Registry) -> None:
    noted = registry.register(entry())
    assert noted.running
    assert registry.find("photos") == noted
    assert registry.find("/mnt/photos") == noted
    assert registry.find("/mnt/photos/") == noted
    assert registry.entries() == [noted]
    assert (registry.directory.stat().st_mode & 0o777) == 0o700


def test_a_directory_is_found_by_any_spelling(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "real" / "mnt"
    mount.mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "direct").symlink_to(mount)
    registry.register(entry(mountpoint=str(mount)))
    monkeypatch.chdir(tmp_path)
    for spelling in ("real/mnt", "./real/mnt/", "link/mnt", "direct", f"{tmp_path}/real/../link/mnt"):
        assert registry.find(spelling).mountpoint == str(mount), spelling


def test_unregister_forgets_only_ones_own_entry(registry: Registry) -> None:
    noted = registry.register(entry())
    successor = registry.register(entry(mountpoint="/mnt/other"))
    registry.unregister(noted)
    assert registry.entries() == [successor]
    registry.unregister(successor)
    assert registry.entries() == []


def test_nothing_there_is_told_with_the_way_to_start_one(registry: Registry) -> None:
    with pytest.raises(GatewayGone, match="no gateway is mounted at /mnt/x") as caught:
        registry.find("/mnt/x")
    assert caught.value.cure == "start one: gatewayfs mount BUCKET /mnt/x"
    assert caught.value.exit_code == 3


def test_what_does_run_is_named_instead(registry: Registry) -> None:
    registry.register(entry())
    with pytest.raises(GatewayGone) as caught:
        registry.find("/mnt/fotos")
    assert caught.value.cure == "running: photos on /mnt/photos"
    with pytest.raises(GatewayGone, match="lies in the mount /mnt/photos"):
        registry.find("/mnt/photos/2024")


def test_a_crashed_gateway_is_told_from_a_running_one(registry: Registry) -> None:
    registry.register(entry(pid=dead_pid()))
    with pytest.raises(GatewayGone, match=r"photos on /mnt/photos is not running \(crashed\?\)") as caught:
        registry.find("photos")
    assert "gatewayfs mount company-photos/site-a /mnt/photos --cache-dir /var/cache/gatewayfs/photos" in (
        caught.value.cure
    )


def test_a_later_process_with_the_same_pid_is_not_the_gateway(registry: Registry) -> None:
    registry.register(entry())
    file = registry.directory / "photos.json"
    content = json.loads(file.read_text())
    content["process_started"] -= 1
    file.write_text(json.dumps(content))
    with pytest.raises(GatewayGone, match="not running"):
        registry.find("photos")


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # it has closed everything; whether it is a zombie already or about to be, wait for it
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_ticks(process.pid) is None
    process.wait()
    process.stdout.close()


def test_a_second_gateway_of_one_name_or_one_directory_is_refused(registry: Registry) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        registry.register(entry(pid=other.pid))
        with pytest.raises(UserError, match="a gateway named photos is running already, on /mnt/photos"):
            registry.register(entry(mountpoint="/mnt/elsewhere"))
        with pytest.raises(UserError, match="the gateway photos is mounted on /mnt/photos already"):
            registry.register(entry(share="second"))
        other.kill()
    assert registry.register(entry()).pid == os.getpid()


def test_a_damaged_entry_is_named(registry: Registry) -> None:
    registry.register(entry())
    (registry.directory / "photos.json").write_text("{")
    with pytest.raises(UserError, match=r"photos\.json cannot be read"):
        registry.entries()


def test_a_runtime_directory_open_to_others_is_refused(registry: Registry) -> None:
    registry.directory.mkdir()
    registry.directory.chmod(0o777)
    with pytest.raises(UserError, match="may be written by others"):
        registry.register(entry())


def test_where_gateways_register() -> None:
    assert runtime_directory({"GATEWAYFS_RUNTIME_DIR": "/x"}, euid=0) == Path("/x")
    assert runtime_directory({}, euid=0) == Path("/run/gatewayfs")
    assert runtime_directory({"XDG_RUNTIME_DIR": "/run/user/7"}, euid=7) == Path("/run/user/7/gatewayfs")
    with pytest.raises(UserError, match="no runtime directory"):
        runtime_directory({}, euid=7)

"""The verbs that speak to a gateway, against a scripted one over the real socket."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayfs import mountpoint
from gatewayfs.cli import umount
from gatewayfs.cli.main import main
from gatewayfs.control.registry import Registration, Registry

ROOT = Path(__file__).parents[3]
EMPTY = {"files_left": 0, "bytes_left": 0, "left": []}
LEFT = {
    "files_left": 3,
    "bytes_left": 4096,
    "left": [{"path": "a/b.txt", "reason": "AccessDenied", "bytes": 4096}, {"path": "c", "reason": "archived"}],
}
STATUS = {
    "share": {"name": "fake", "bucket": "bucket-1", "prefix": "", "mountpoint": "/mnt/fake"},
    "upload": {"entries": 3, "entries_bytes": 4096},
    "problems": ["the bucket does not answer; check the network"],
    "something_new": {"figure_bytes": 1536, "nothing": 0},
}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mount directory; the registry is this test's own."""
    monkeypatch.setenv("GATEWAYFS_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
    made = tmp_path / "mnt"
    made.mkdir()
    yield made
    while mountpoint.mounted_at(made):
        subprocess.run(["umount", "-l", str(made)], check=True)


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Start the scripted gateway and wait until it serves."""
    processes = []

    def run(**script: Any) -> "subprocess.Popen[str]":
        orders = json.dumps({"status": STATUS, "drain": [EMPTY]} | script)
        command = [sys.executable, str(Path(__file__).parent / "fakegateway.py"), str(place), orders]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd="/")
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_status_shows_problems_first_and_whatever_else_it_is_sent(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    assert main(["status", str(place)]) == 0
    lines = said(capsys).splitlines()
    assert lines[0] == "fake: bucket-1 on /mnt/fake  1 to look at"
    assert lines[1] == "  ! the bucket does not answer; check the network"
    assert any(line.split() == ["figure", "1.5", "KiB"] for line in lines)
    assert not any(line.strip().startswith("nothing") for line in lines)
    assert main(["status", str(place), "--all"]) == 0
    assert any(line.split() == ["nothing", "0"] for line in said(capsys).splitlines())
    assert main(["status", "fake", "--json"]) == 0
    assert json.loads(said(capsys)) == STATUS


@pytest.mark.parametrize("status", [{}, {"share": None, "problems": None}, {"upload": 3, "cache": []}])
def test_status_copes_with_a_gateway_of_another_release(status: dict[str, Any], place: Path, start: Start) -> None:
    start(status=status)
    assert main(["status", str(place)]) == 0


def test_status_without_a_name_lists_the_running_and_the_crashed(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start()
    assert main(["status"]) == 0
    assert f"fake: bucket-1 on {place}  pid {process.pid}" in said(capsys)
    process.kill()
    process.wait()
    assert main(["status"]) == 0
    assert "not running (crashed?)" in said(capsys)
    assert main(["status", "fake"]) == 3
    assert "is not running (crashed?); start it again" in capsys.readouterr().err


def test_drain_wait_returns_0_when_all_is_in_the_bucket(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [{"files_total": 3, "files_left": n, "bytes_total": 0, "bytes_left": 0} for n in (3, 2, 1, 0)]
    start(drain=[*frames, {}, {"bytes_total": 10, "bytes_left": 20}, EMPTY])
    assert main(["drain", "--wait", str(place)]) == 0
    assert said(capsys) == "everything is in the bucket\n"
    assert main(["drain", "--timeout", "1m", "--json", "fake"]) == 0
    assert json.loads(said(capsys))["args"] == {"wait": True, "timeout_s": 60.0}


def test_drain_wait_returns_5_with_what_is_left_and_why(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start(drain=[LEFT])
    assert main(["drain", "--wait", str(place)]) == 5
    assert said(capsys).splitlines() == [
        "3 files (4.0 KiB) not in the bucket yet:",
        "  a/b.txt: AccessDenied (bytes 4.0 KiB)",
        "  c: archived",
        "  and 1 more; gatewayfs queue ls tells the reasons",
    ]
    assert main(["drain", str(place)]) == 0
    assert said(capsys) == "uploading 3 files (4.0 KiB); gatewayfs status shows how far it is\n"


def test_drain_and_umount_say_how_much_is_held_and_how_to_let_it_go(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start(drain=[{"files_left": 2, "bytes_left": 0, "held": 2, "left": []}])
    for verb in (["drain", "--wait"], ["umount"]):
        assert main([*verb, str(place)]) == 5
        lines = said(capsys).splitlines()
        assert lines[:2] == [
            "2 files not in the bucket yet:",
            "  2 changes held; gatewayfs queue release lets them go",
        ]
        assert "more" not in "".join(lines)


QUEUE = [
    {"path": "a", "work": "upload", "state": "in flight", "reason": "sending", "size_bytes": 2048, "sent_bytes": 1024},
    {"path": "b c", "work": "delete", "state": "parked", "reason": "AccessDenied", "age_s": 125.0, "retry_s": 60.0},
    {"path": "d", "work": "rename", "state": "held", "reason": "until gatewayfs queue release"},
]


def test_queue_ls_shows_entries_page_by_page(place: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start(queue=QUEUE)
    assert main(["queue", "ls", str(place)]) == 0
    lines = [" ".join(line.split()) for line in said(capsys).splitlines()]
    assert lines == [
        "2.0 KiB 0s in flight upload a: sending, 1.0 KiB of 2.0 KiB",
        "0 B 2m 5s parked delete b c: AccessDenied, looked at in 1m",
        "0 B 0s held rename d: until gatewayfs queue release",
    ]
    assert main(["queue", "ls", "fake", "--limit", "2"]) == 0
    assert said(capsys).splitlines()[2:] == ["and more; --limit 0 shows all"]
    assert main(["queue", "ls", "fake", "--limit", "3", "--json"]) == 0
    assert [json.loads(line) for line in said(capsys).splitlines()] == QUEUE


def test_queue_ls_of_an_empty_queue_says_so(place: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start(queue=[])
    assert main(["queue", "ls", str(place)]) == 0
    assert said(capsys) == "nothing is queued\n"


def test_queue_hold_release_retry_and_now_name_paths_relative_to_the_mount(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    assert main(["queue", "hold", str(place), f"{place}/a/", "/b", "--json"]) == 0
    assert json.loads(said(capsys))["args"] == {"paths": ["a", "b"]}
    assert main(["queue", "hold", "fake", "a"]) == 0
    assert said(capsys) == "held since 1970-01-01 00:00:00Z: a\n"
    assert main(["queue", "release", "fake"]) == 0
    assert said(capsys) == "nothing is held\n"
    assert main(["queue", "retry", "fake"]) == 0
    assert said(capsys) == "2 entries being tried again\n"
    assert main(["queue", "now", "fake", "x"]) == 0
    assert said(capsys) == "2 entries uploaded now\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["now", "fake"], "which PATH?"),
        (["ls", "fake", "a", "b"], "one PATH"),
        (["hold", "fake", "--limit", "3"], "takes no --limit"),
        (["ls", "fake", "--limit", "-1"], "--limit"),
        (["hold", "fake", "../x"], "leads out of the share"),
        (["steal", "fake"], "steal"),
    ],
)
def test_mistakes_in_queue_are_told(
    arguments: list[str], complaint: str, place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    assert main(["queue", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_refresh_cache_names_folders_relative_to_the_mount(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    assert (
        main(["refresh-cache", str(place), "--folder", f"{place}/a", "--folder", "/b", "--no-recursive", "--json"]) == 0
    )
    assert json.loads(said(capsys))["args"] == {"folders": ["a", "b"], "recursive": False, "wait": False}
    assert main(["refresh-cache", "fake", *(["--folder", "x"] * 51)]) == 2
    assert main(["refresh-cache", "fake", "--folder", "../x"]) == 2


def test_refresh_cache_says_its_id_at_once_or_waits_for_the_report(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start(refresh="done")
    assert main(["refresh-cache", "fake"]) == 0
    assert said(capsys) == "id-1\n"
    assert main(["refresh-cache", "fake", "--wait"]) == 0
    assert said(capsys).startswith("done, in ")
    assert main(["refresh-cache", "fake", "--wait", "--json"]) == 0
    assert json.loads(said(capsys))["report"] == {"listed": 3}


def test_a_refresh_that_failed_is_a_failure(place: Path, start: Start) -> None:
    start(refresh="failed")
    assert main(["refresh-cache", "fake", "--wait"]) == 1


def test_refreshes_are_listed_and_cancelled(place: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start()
    assert main(["refresh-cache", "fake", "--list"]) == 0
    running, done = said(capsys).splitlines()
    assert running.startswith("id-1  running (no route)")
    assert "3 names, 2 changes  /a" in done
    assert main(["refresh-cache", "fake", "--cancel", "id-1"]) == 0
    assert main(["refresh-cache", "fake", "--cancel", "id-2"]) == 1
    assert main(["refresh-cache", "fake", "--list", "--wait"]) == 2


@pytest.mark.mount
def test_umount_drains_unmounts_and_waits_for_the_end(place: Path, start: Start) -> None:
    process = start(mount=True)
    assert main(["umount", str(place)]) == 0
    assert mountpoint.mounted_at(place) is None
    assert process.poll() == 0 or process.wait(1) == 0
    assert main(["umount", str(place)]) == 3


@pytest.mark.mount
def test_umount_stays_mounted_when_something_cannot_be_uploaded(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(mount=True, drain=[LEFT])
    assert main(["umount", "fake"]) == 5
    assert f"{place} stays mounted" in said(capsys)
    assert mountpoint.mounted_at(place) is not None
    assert process.poll() is None
    assert main(["umount", "--no-drain", "fake"]) == 0
    assert said(capsys).startswith("3 files (4.0 KiB) stay queued in /cache/fake and are uploaded after the next mount")
    assert mountpoint.mounted_at(place) is None


@pytest.mark.mount
def test_umount_of_a_busy_mount_names_its_users_and_changes_nothing(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(mount=True)
    with (place / "open").open("w"):
        assert main(["umount", str(place)]) == 1
    assert f"(pid {os.getpid()})" in capsys.readouterr().err
    assert process.poll() is None
    assert main(["umount", str(place)]) == 0


@pytest.mark.mount
def test_umount_tells_a_gateway_whose_mount_was_detached_by_hand_to_stop(place: Path, start: Start) -> None:
    process = start(mount=True, stubborn=True)
    subprocess.run(["umount", "-l", str(place)], check=True)
    assert main(["umount", "fake"]) == 0
    assert process.wait(1) == 0


@pytest.mark.mount
def test_umount_ends_a_gateway_that_another_mount_namespace_keeps_alive(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(umount, "ALONE_S_MAX", 0.1)
    process = start(mount=True, stubborn=True)
    assert main(["umount", "fake"]) == 0
    assert process.wait(1) == 0


@pytest.mark.mount
def test_umount_does_not_wait_for_ever(
    place: Path, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(umount, "ALONE_S_MAX", 0.1)
    monkeypatch.setattr(umount, "END_S_MAX", 1.0)
    process = start(mount=True, stubborn=True, deaf=True)
    assert main(["umount", "fake"]) == 1
    assert f"is unmounted, but the gateway (pid {process.pid}) has not ended" in capsys.readouterr().err


@pytest.mark.mount
def test_umount_clears_the_dead_mount_of_a_crashed_gateway(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(Path(os.environ["GATEWAYFS_RUNTIME_DIR"]))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as crashed:
        registry.register(Registration("fake", str(place), crashed.pid, "/s", "/cache/fake", "b-1", "", "2026"))
        crashed.kill()
    for target in ("fake", str(place)):
        _dead_fuse_mount(place)
        assert main(["umount", target]) == 0
        assert "had crashed; its dead mount" in said(capsys)
        assert mountpoint.mounted_at(place) is None
        assert registry.entries() == []


def _dead_fuse_mount(place: Path) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    assert ctypes.CDLL(None).mount(b"b-1", os.fsencode(place), b"fuse.gatewayfs", 0, options) == 0
    os.close(fd)

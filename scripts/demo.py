#!/usr/bin/env python3
"""See it work: an S3 server, a bucket, the bucket mounted, a directory tree copied in, and what the bucket holds then.

Everything lives in one temporary directory and in child processes, and is gone at the end, however the end comes:
Ctrl-C, SIGTERM or an error. The S3 server is moto's, in memory; the mount is the real program through its command line.

It stays until Ctrl-C; without a terminal, or with CI=true, it ends after showing. DEMO_SECONDS=n: it stays n seconds.
Exit status: 0, or 1 with one line that says what is missing or failed.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import boto3  # noqa: E402  (after the path, like everything that this repository holds)
from botocore.config import Config  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.panel import Panel  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.support.moto import MotoFailed, moto_server  # noqa: E402

PROGRAM = Path(sys.executable).parent / "gatewayfs"
BUCKET = "demo"
KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo-secret", "AWS_DEFAULT_REGION": "us-east-1"}
COPIED = ("gatewayfs", "docs")
SHOWN_DIRECTORY = "gatewayfs/config"
SHOWN_ROWS_MAX = 12
SERVE_S_MAX = 30.0
VERB_S_MAX = 120.0
POLL_S = 0.02

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """The one line to end with."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_machine()
        with ExitStack() as stack:
            show(stack)
            stay()
            console.print("\nUnmounting and cleaning up.")
    except KeyboardInterrupt:
        console.print("Stopped; everything is cleaned up.")
    except (DemoFailed, MotoFailed) as failure:
        console.print(f"[bold red]demo:[/] {failure}", markup=True)
        return 1
    return 0


def check_machine() -> None:
    """Say what is missing before anything is started."""
    if os.geteuid() != 0:
        raise DemoFailed("mounting takes root: sudo make demo")
    if not os.path.exists("/dev/fuse"):
        raise DemoFailed("no /dev/fuse on this machine: modprobe fuse, or start the container with --device /dev/fuse")
    if not PROGRAM.exists():
        raise DemoFailed(f"{PROGRAM} is missing: run make setup")


def show(stack: ExitStack) -> None:
    """The demonstration itself; whatever it starts is left to the stack to stop."""
    console.print(Panel("[bold]GatewayFS[/]: a bucket as a directory, a directory as a bucket", expand=False))
    home = Path(tempfile.mkdtemp(prefix="gatewayfs-demo-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    mount_dir, cache_dir, log_path = home / "mnt", home / "cache", home / "daemon.log"
    mount_dir.mkdir()

    with step("an S3 server (moto, in memory)") as note:
        endpoint = stack.enter_context(moto_server())
        s3 = s3_client(endpoint)
        stack.callback(s3.close)
        s3.create_bucket(Bucket=BUCKET)
        note(f"{endpoint}, bucket {BUCKET}")
    with step("the bucket, mounted") as note:
        stack.enter_context(mounted(mount_dir, cache_dir, endpoint, log_path))
        note(str(mount_dir))
    with step("a directory tree, copied in") as note:
        files, size_bytes = copy_in(mount_dir)
        note(f"{files} files, {size_bytes / 1024:.0f} KiB: acknowledged, safe on the local disk")
    with step("everything in the bucket (gatewayfs drain --wait)") as note:
        verb("drain", "--wait", str(mount_dir))
        keys = list_keys(s3)
        note(f"{len(keys)} objects")

    side_by_side(mount_dir, keys)
    one_object(s3, keys)
    explain(mount_dir, endpoint, log_path)


@contextmanager
def step(title: str) -> Iterator[Any]:
    """One line per step: what, how long, and what the step has to say."""
    notes: list[str] = []
    started = time.monotonic()
    with console.status(title):
        yield notes.append
    took_s = time.monotonic() - started
    console.print(f"[green]ok[/] {title} [dim]{took_s:.1f} s[/]  {' '.join(notes)}")


def s3_client(endpoint: str) -> Any:
    """Somebody else's view of the bucket: plain boto3."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


@contextmanager
def mounted(mount_dir: Path, cache_dir: Path, endpoint: str, log_path: Path) -> Iterator[None]:
    """Mount the bucket for the length of the block; the daemon is a child in a session of its own, so that the
    Ctrl-C that ends this program does not reach it before it is told to unmount."""
    command = [PROGRAM, "mount", BUCKET, mount_dir, "--cache-dir", cache_dir, "--endpoint-url", endpoint]
    with log_path.open("wb") as log:
        daemon = subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | KEYS,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_serving(daemon, mount_dir, log_path)
        yield
    finally:
        unmount(daemon, mount_dir)


def wait_serving(daemon: "subprocess.Popen[bytes]", mount_dir: Path, log_path: Path) -> None:
    deadline = time.monotonic() + SERVE_S_MAX
    while not os.path.ismount(mount_dir):
        if daemon.poll() is not None:
            raise DemoFailed(f"gatewayfs mount ended with status {daemon.returncode}: {last_line(log_path)}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"the mount does not serve after {SERVE_S_MAX:g} s: {last_line(log_path)}")
        time.sleep(POLL_S)


def last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def unmount(daemon: "subprocess.Popen[bytes]", mount_dir: Path) -> None:
    """Unmount as a user would, and by force where that fails; a second Ctrl-C must not leave a mount behind."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if daemon.poll() is None:
            subprocess.run(
                [PROGRAM, "umount", "--no-drain", mount_dir],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=VERB_S_MAX,
                check=False,
            )
            daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    finally:
        subprocess.run(["umount", "-l", mount_dir], capture_output=True, check=False)
        for number, handler in previous.items():
            signal.signal(number, handler)


def copy_in(mount_dir: Path) -> tuple[int, int]:
    """Copy this project's own sources and documents; returns how many files and bytes."""
    files, size_bytes = 0, 0
    for name in COPIED:
        shutil.copytree(ROOT / name, mount_dir / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    os.symlink("docs/cli.md", mount_dir / "guide.md")
    for path in mount_dir.rglob("*"):
        if path.is_file() and not path.is_symlink():
            files += 1
            size_bytes += path.stat().st_size
    return files, size_bytes


def verb(*arguments: str) -> str:
    """Run ``gatewayfs ARGUMENTS`` and return what it printed."""
    done = subprocess.run(
        [str(PROGRAM), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=VERB_S_MAX,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise DemoFailed(f"gatewayfs {' '.join(arguments)} ended with status {done.returncode}: {said[-1]}")
    return done.stdout


def list_keys(s3: Any) -> dict[str, int]:
    """Every key of the bucket with its size."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def side_by_side(mount_dir: Path, keys: dict[str, int]) -> None:
    """One directory as ``ls -l`` sees it, beside the objects it is made of."""
    table = Table(title="The same things, seen twice", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("ls -l", style="dim", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("on the mount", style="cyan", overflow="fold")
    table.add_column("key in the bucket", style="magenta", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    shown = [mount_dir / SHOWN_DIRECTORY, *sorted((mount_dir / SHOWN_DIRECTORY).iterdir()), mount_dir / "guide.md"]
    for path in shown[:SHOWN_ROWS_MAX]:
        details = path.lstat()
        key = str(path.relative_to(mount_dir)) + ("/" if stat.S_ISDIR(details.st_mode) else "")
        if key not in keys:
            raise DemoFailed(f"{key} is on the mount but not in the bucket")
        name = f"{path.name} -> {os.readlink(path)}" if path.is_symlink() else path.name
        table.add_row(stat.filemode(details.st_mode), str(details.st_size), name, key, str(keys[key]))
    console.print()
    console.print(table)


def one_object(s3: Any, keys: dict[str, int]) -> None:
    """What travels with an object: the attributes that other File Gateway tools read and write."""
    key = next(key for key in keys if key.startswith(SHOWN_DIRECTORY) and key.endswith(".py"))
    metadata = s3.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    table = Table(title=f"The object {key} carries", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("key", style="cyan")
    table.add_column("value")
    for name, value in sorted(metadata.items()):
        table.add_row(name, value)
    console.print()
    console.print(table)


def explain(mount_dir: Path, endpoint: str, log_path: Path) -> None:
    """Lines to copy into another terminal, each short enough to stay one."""
    console.print("\n[bold]Look around[/] in another terminal, from this directory:")
    for line in (
        f"ls -lR {mount_dir}",
        f".venv/bin/gatewayfs status {mount_dir}",
        f"date >{mount_dir}/now && .venv/bin/gatewayfs drain --wait {mount_dir}",
        f"curl -s '{endpoint}/{BUCKET}?list-type=2'",
        f"tail -f {log_path}",
    ):
        console.print(f"  {line}", markup=False)


def stay() -> None:
    """Until Ctrl-C, or not at all where nobody could press it."""
    if seconds := os.environ.get("DEMO_SECONDS", ""):
        time.sleep(float(seconds))
    elif sys.stdin.isatty() and os.environ.get("CI") != "true":
        console.print("\n[bold]Ctrl-C[/] unmounts and removes everything.")
        wait_for_ctrl_c()


def wait_for_ctrl_c() -> NoReturn:
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())

"""Cold and warm reads over a far link, beside the peers that are installed: rclone mount and s3fs.

A production S3 server (``scripts/s3-server.sh``) behind a link of 20 ms and 1 Gbit/s in a process of its own. Every
figure is taken with a fresh mount and a fresh cache, the contestants one after the other in each round; the best of the
rounds is kept. The yardstick of the big file is curl with four ranged requests at a time through the same link: what
this machine gets out of it at all. ``RCLONE`` and ``S3FS`` name the programs; a peer that is not there is left out.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateways
from tests.support.s3server import TEST_KEY, TEST_SECRET, Bucket, client, fresh_bucket, production_server

RTT_MS, RATE_MBIT = 20, 1000
BIG_BYTES = int(os.environ.get("BENCH_BIG_MIB", "512")) << 20
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
FILES, DIRECTORIES = 1000, 20
SMALLEST_BYTES, LARGEST_BYTES = 300, 64 << 10
RANGE_BYTES = 8 << 20
MOUNT_S_MAX = 20.0

Mount = Callable[[Bucket, str, Path], Any]
"""Bucket, the link's URL, an empty directory -> a context manager that yields the mount point."""


def run() -> dict[str, Any]:
    """Seconds of each task for each contestant, MB/s of the big file, and the ratios to the yardstick and the peers."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    best: dict[str, float] = {}
    with production_server() as server, fresh_bucket(server) as bucket, _link(server) as url:
        _fill(bucket)
        for _ in range(ROUNDS):
            _keep(best, "big_read_s_curl", _curl(bucket, url))
            for name, mount in contestants().items():
                for task, work in TASKS.items():
                    with _scratch() as scratch, mount(bucket, url, scratch) as mountpoint:
                        _keep(best, f"{task}_s_{name}", work(mountpoint))
                        if task == "ls_lR":
                            _keep(best, f"{task}_warm_s_{name}", work(mountpoint))
    return _figures(best)


def contestants() -> dict[str, Mount]:
    """Ours, and the peers found on this machine."""
    found: dict[str, Mount] = {"gatewayfs": _gatewayfs}
    if rclone := shutil.which(os.environ.get("RCLONE", "rclone")):
        found["rclone"] = partial(_rclone, rclone)
    if s3fs := shutil.which(os.environ.get("S3FS", "s3fs")):
        found["s3fs"] = partial(_s3fs, s3fs)
    return found


def _figures(best: dict[str, float]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: round(value, 3) for name, value in best.items()}
    for name, value in best.items():
        if name.startswith("big_read_s_"):
            who = name.removeprefix("big_read_s_")
            figures[f"big_read_mb_per_s_{who}"] = round(BIG_BYTES / 1e6 / value, 1)
            figures[f"big_read_ratio_to_curl_{who}"] = round(best["big_read_s_curl"] / value, 2)
        elif not name.endswith("_gatewayfs"):
            task, _, who = name.rpartition("_s_")
            figures[f"{task}_times_faster_than_{who}"] = round(value / best[f"{task}_s_gatewayfs"], 2)
    return figures


def _keep(best: dict[str, float], name: str, value: float) -> None:
    best[name] = min(best.get(name, value), value)


# ---------------------------------------------------------------------- what is measured


def _timed(command: list[str], directory: Path) -> float:
    begun = time.perf_counter()
    # grep answers 1 when nothing matches, as here.
    done = subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode > 1 or done.stderr:
        raise RuntimeError(f"{command}: {done.stderr.decode()[-500:]}")
    return time.perf_counter() - begun


def _first_byte(mountpoint: Path) -> float:
    begun = time.perf_counter()
    with (mountpoint / "big").open("rb", buffering=0) as file:
        file.read(1)
    return time.perf_counter() - begun


TASKS: dict[str, Callable[[Path], float]] = {
    "first_byte": _first_byte,
    "big_read": lambda mountpoint: _timed(["cat", "big"], mountpoint),
    "ls_lR": lambda mountpoint: _timed(["ls", "-lR", "tree"], mountpoint),
    "grep_r": lambda mountpoint: _timed(["grep", "-r", "no such text", "tree"], mountpoint),
}


def _fill(bucket: Bucket) -> None:
    rng = random.Random(4)
    metadata = {"file-permissions": "0100644", "file-owner": "0", "file-group": "0"}

    def put(number: int) -> None:
        key = f"tree/d{number % DIRECTORIES:02}/f{number:04}"
        size = int(SMALLEST_BYTES * (LARGEST_BYTES / SMALLEST_BYTES) ** sizes[number])
        bucket.put(key, os.urandom(size), Metadata=metadata)

    sizes = [rng.random() for _ in range(FILES)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(FILES)))
    with tempfile.TemporaryFile(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(os.urandom(1 << 20))
        file.seek(0)
        bucket.s3.upload_fileobj(file, bucket.name, "big", ExtraArgs={"Metadata": metadata})


def _curl(bucket: Bucket, url: str) -> float:
    """The big file by four ranged requests at a time."""
    signed = client(url).generate_presigned_url("get_object", Params={"Bucket": bucket.name, "Key": "big"})
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as recipe:
        for start in range(0, BIG_BYTES, RANGE_BYTES):
            end = min(start + RANGE_BYTES, BIG_BYTES) - 1
            lines = [f'url = "{signed}"', f'range = "{start}-{end}"', 'output = "/dev/null"']
            recipe.write("\n".join((["next"] if start else []) + lines) + "\n")
        recipe.flush()
        return _timed(["curl", "-s", "--no-progress-meter", "-Z", "--parallel-max", "4", "-K", recipe.name], Path("/"))


# ---------------------------------------------------------------------- who is measured


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
        yield Path(directory)


@contextmanager
def _link(server: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.link", server]
    command += ["--rtt-ms", str(RTT_MS), "--rate-mbit", str(RATE_MBIT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as link:
        assert link.stdout is not None
        try:
            yield link.stdout.readline().strip()
        finally:
            link.terminate()


@contextmanager
def _gatewayfs(bucket: Bucket, url: str, scratch: Path) -> Iterator[Path]:
    with Gateways(scratch) as gateways:
        yield gateways.mount(bucket, endpoint_url=url).mount_dir


@contextmanager
def _rclone(program: str, bucket: Bucket, url: str, scratch: Path) -> Iterator[Path]:
    options = ["--s3-provider", "Ceph", "--s3-env-auth", "--s3-endpoint", url, "--vfs-cache-mode", "full"]
    options += ["--cache-dir", str(scratch / "cache"), "--config", "/dev/null"]
    with _foreground([program, "mount", f":s3:{bucket.name}", "MOUNT", *options], scratch) as mountpoint:
        yield mountpoint


@contextmanager
def _s3fs(program: str, bucket: Bucket, url: str, scratch: Path) -> Iterator[Path]:
    password = scratch / "password"
    password.write_text(f"{TEST_KEY}:{TEST_SECRET}\n")
    password.chmod(0o600)
    options = f"url={url},use_path_request_style,passwd_file={password},use_cache={scratch / 'cache'}"
    with _foreground([program, bucket.name, "MOUNT", "-f", "-o", options], scratch) as mountpoint:
        yield mountpoint


@contextmanager
def _foreground(command: list[str], scratch: Path) -> Iterator[Path]:
    """A peer's daemon in the foreground; MOUNT in the command stands for the mount point."""
    mountpoint = scratch / "mnt"
    mountpoint.mkdir()
    command = [str(mountpoint) if word == "MOUNT" else word for word in command]
    with (scratch / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            deadline = time.monotonic() + MOUNT_S_MAX
            while not mountpoint.is_mount():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not mount: {(scratch / 'log').read_text()[-500:]}")
                time.sleep(0.05)
            yield mountpoint
        finally:
            subprocess.run(["umount", "-l", str(mountpoint)], check=False)
            daemon.terminate()
            daemon.wait(MOUNT_S_MAX)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")

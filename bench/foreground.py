"""What programs on the mount feel while the queue drains at full speed.

One program creates, writes and closes files of 100 bytes and stats each of them once (a first stat is answered by the
daemon, later ones by the kernel); nothing it writes is due for upload. That is timed call by call, with nothing else
to do and with a queue that drains: thousands of small files, then large ones. The phases are interleaved, so that
what the machine does besides hits all of them.

The store is ``sink``: on two cores a real one would take the CPU that is to be measured. ``ENDPOINT=url`` takes
another one.
"""

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.sink import Sink
from tests.support.gateway import PROGRAM, Gateway, Gateways
from tests.support.s3server import TEST_KEY, TEST_SECRET, Bucket, client, fresh_bucket

ROUNDS = 3
PHASES = {"idle": (0, 0), "small": (5000, 100), "big": (8, 256 << 20)}
"""How many files of how many bytes wait for upload."""

PHASE_S = 5.0
SMALL = b"x" * 100


def run() -> dict[str, Any]:
    """Rates and latencies of the three phases, ratios to idle, and how fast the queue drained."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    seen: dict[str, list[dict[str, float]]] = {}
    with (
        _bucket() as bucket,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as scratch,
        Gateways(Path(scratch)) as gateways,
    ):
        gateways.watchdog.cancel()  # it is meant for tests, which take seconds
        settings = {"upload.settle": "600s", "upload.settle_max": "600s"}
        gateway = gateways.mount(bucket, settings=settings)
        for number in range(ROUNDS):
            place = gateway.mount_dir / f"round{number}"
            place.mkdir()
            for phase, (count, size) in PHASES.items():
                gateway.drain()
                work = place / f"{phase}-work"
                work.mkdir()
                _fill(work, count, size)
                seen.setdefault(phase, []).append(_phase(gateway, place / phase, draining=count > 0))
    return _figures(seen)


@contextlib.contextmanager
def _bucket() -> Iterator[Bucket]:
    if endpoint := os.environ.get("ENDPOINT"):
        with fresh_bucket(endpoint) as bucket:
            yield bucket
        return
    with Sink() as url:
        yield Bucket("sink", url, client(url))


def _fill(place: Path, count: int, size: int) -> None:
    piece = os.urandom(min(size, 1 << 20))
    for number in range(count):
        with (place / f"f{number}").open("wb", buffering=0) as file:
            for _ in range(max(1, size >> 20)):
                file.write(piece)


def _phase(gateway: Gateway, place: Path, *, draining: bool) -> dict[str, float]:
    """Create and stat for ``PHASE_S`` or, when something drains, until the queue is empty."""
    place.mkdir()
    command = [PROGRAM, "drain", "--wait", str(gateway.mount_dir)]
    drain = subprocess.Popen(command, env=gateway.environ(), stdout=subprocess.DEVNULL) if draining else None
    if drain is not None:
        gateway.wait_until(lambda: bool(gateway.status()["upload"]["in_flight"]), 30, "the drain to begin")
    creates: list[float] = []
    stats: list[float] = []
    before, cpu_s, begun = gateway.status()["upload"], _cpu_s(gateway), time.perf_counter()
    while time.perf_counter() - begun < PHASE_S and (drain is None or drain.poll() is None):
        _touch(f"{place}/f{len(creates)}", creates, stats)
    seconds = time.perf_counter() - begun
    figures = {"cpus": (_cpu_s(gateway) - cpu_s) / seconds}
    after = gateway.status()["upload"]
    figures["files_drained_per_s"] = (after["uploaded_files"] - before["uploaded_files"]) / seconds
    figures["mb_drained_per_s"] = (after["uploaded_bytes"] - before["uploaded_bytes"]) / 1e6 / seconds
    for name, times in (("create", sorted(creates)), ("stat", sorted(stats))):
        figures[f"{name}s_per_s"] = len(times) / sum(times)
        figures[f"{name}_p50_ms"] = times[len(times) // 2] * 1e3
        figures[f"{name}_p99_ms"] = times[len(times) * 99 // 100] * 1e3
    if drain is not None:
        drain.wait()
    return figures


def _touch(path: str, creates: list[float], stats: list[float]) -> None:
    clock = time.perf_counter
    begun = clock()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(fd, SMALL)
    os.close(fd)
    made = clock()
    os.stat(path)
    stats.append(clock() - made)
    creates.append(made - begun)


def _cpu_s(gateway: Gateway) -> float:
    assert gateway.process is not None
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _figures(seen: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The median of the rounds, and what the phases are to idle in the same round."""
    figures: dict[str, Any] = {}
    for phase, rounds in seen.items():
        for name in rounds[0]:
            figures[f"{phase}_{name}"] = round(statistics.median(one[name] for one in rounds), 2)
            if phase != "idle" and name.startswith(("create", "stat")):
                ratios = [one[name] / idle[name] for one, idle in zip(rounds, seen["idle"], strict=True)]
                figures[f"{phase}_{name}_ratio"] = round(statistics.median(ratios), 2)
    return figures

"""``ls -R`` and ``refresh-cache`` of a share with a million objects: time, memory, and how long the loop is kept.

The bucket is arithmetic: pages are made when they are asked for, so what is measured is the gateway's own work. Over a
real network each LIST adds its round trip. Each number of objects has a process of its own, and so its own memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.kernel import NoKernel
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.store import ListedObject, ListPage

PER_DIRECTORY = 50
SIZES = (100_000, 1_000_000)
NS = 10**9


def run() -> dict[str, Any]:
    """Figures of both sizes, by name and number of objects."""
    figures: dict[str, Any] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
            command = [sys.executable, "-m", "bench.refresh", str(size), directory]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
        figures |= {f"{name}_{size}": value for name, value in json.loads(answer.stdout).items()}
    return figures


class Arithmetic:
    """A bucket of ``size`` objects, ``PER_DIRECTORY`` in each directory; ``changed``: every so manieth is another."""

    bucket = "arithmetic"

    def __init__(self, size: int) -> None:
        self.directories = size // PER_DIRECTORY
        self.changed = 0
        self.lists = 0

    async def list_page(
        self, prefix: str, *, delimiter: bool, token: str = "", start_after: str = "", max_keys: int = 1000
    ) -> ListPage:
        self.lists += 1
        await trio.lowlevel.checkpoint()
        first = int(token) if token else 0
        if delimiter and not prefix:
            names = [f"d{number:07}/" for number in range(first, min(first + max_keys, self.directories))]
            more = first + max_keys < self.directories
            return ListPage([], names, str(first + max_keys) if more else "")
        start = int(prefix[1:8]) * PER_DIRECTORY if prefix else 0
        end = start + PER_DIRECTORY if prefix else self.directories * PER_DIRECTORY
        begin = max(start, first)
        rows = [self._row(number) for number in range(begin, min(begin + max_keys, end))]
        return ListPage(rows, [], str(begin + max_keys) if begin + max_keys < end else "")

    def _row(self, number: int) -> ListedObject:
        key = f"d{number // PER_DIRECTORY:07}/file{number % PER_DIRECTORY:02}"
        other = bool(self.changed) and number % self.changed == 0
        return ListedObject(key, f"etag{number:027x}{other:d}", 1000 + other, 1_700_000_000 * NS, "STANDARD")


class NoBytes:
    """Nothing is cached."""

    def open_count(self, ino: int) -> int:
        return 0

    def forget(self, tx: Transaction, inode: Inode) -> Inode:
        return inode

    rebase = forget


async def _measure(size: int, directory: Path) -> dict[str, Any]:
    clock, bucket = SystemClock(), Arithmetic(size)
    meta = MetaStore.open(directory, prefix="", clock=clock, offload=Offload(2))
    with meta.transaction() as tx:
        tx.put(Inode(1, 0, b"", 0o40755, 0, 0, 0, 1, 1, 1, directory=Directory(source="")))
    refresh = Refresh(
        meta=meta,
        store=bucket,  # type: ignore[arg-type] - it is only listed
        cache=NoBytes(),
        clock=clock,
        kernel=NoKernel(),
        settings=RefreshSettings(),
        notice=lambda _: None,
    )
    figures: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(meta.run)
        await nursery.start(refresh.run)
        for name, changed in (("ls", 0), ("unchanged", 0), ("changed", 100)):
            bucket.changed, bucket.lists = changed, 0
            work = _list_all if name == "ls" else _refresh_all
            figures |= {f"{name}_{what}": value for what, value in (await _timed(work, refresh, meta)).items()}
            figures[f"{name}_lists"] = bucket.lists
        nursery.cancel_scope.cancel()
    meta.close()
    return figures


async def _list_all(refresh: Refresh, meta: MetaStore) -> None:
    await refresh.ensure_listed(1)
    after = 0
    while batch := meta.children(1, after, 100):
        after = batch[-1]
        for ino in batch:
            await refresh.ensure_listed(ino)


async def _refresh_all(refresh: Refresh, _meta: MetaStore) -> None:
    await refresh.refresh()


async def _timed(work: Callable[..., Any], refresh: Refresh, meta: MetaStore) -> dict[str, Any]:
    """Seconds, anonymous memory afterwards and the peak, and how long another task had to wait for its turn."""
    waits: list[float] = []

    async def probe() -> None:
        while True:
            due = trio.current_time() + 0.01
            await trio.sleep_until(due)
            waits.append(trio.current_time() - due)

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe)
        await work(refresh, meta)
        nursery.cancel_scope.cancel()
    waits.sort()
    return {
        "s": round(trio.current_time() - begun, 1),
        "anonymous_mib": _anonymous_mib(),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "wait_p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 1),
        "wait_max_ms": round(waits[-1] * 1000, 1),
    }


def _anonymous_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) >> 10


if __name__ == "__main__":
    print(json.dumps(trio.run(_measure, int(sys.argv[1]), Path(sys.argv[2]))))

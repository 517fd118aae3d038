"""What it costs to have the cache disk checked: sealing a file, scrubbing a cache, the first write after a seal.

Through ``cache/`` alone, without a bucket or a mount. The yardstick is the same disk read the same way (``O_DIRECT``,
1 MiB at a time) by a loop that does nothing with the bytes, and the same write to a file that has no seal.
"""

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import trio

from gatewayfs.cache.content import ContentCache
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.medium import Medium
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.offline import OfflineStore

LARGE_BYTES = 256 << 20
SMALL_FILES, SMALL_BYTES = 20_000, 4096
EMPTY_FILES = 100_000
WRITES = 30
LARGE, FIRST_SMALL = 2, 10


def run() -> dict[str, Any]:
    """Figures and ratios."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
        return trio.run(_figures, Path(directory))


async def _figures(directory: Path) -> dict[str, Any]:
    clock, offload = SystemClock(), Offload(16)
    meta = MetaStore.open(directory, prefix="", clock=clock, offload=offload)
    cache = ContentCache(
        directory, meta=meta, store=OfflineStore(), clock=clock, offload=offload, background=lambda job: job()
    )
    root = Inode(1, 0, b"", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True))
    with meta.transaction() as tx:
        tx.put(root)
        tx.put(Inode(LARGE, 1, b"large", 0o100644, 0, 0, 0, 1, 1, 1, dirty_since_ns=1))
    with cache.using(meta.require(LARGE)) as content:
        piece = os.urandom(1 << 20)
        for offset in range(0, LARGE_BYTES, len(piece)):
            await content.write(offset, piece)
        await content.persist()
    await meta.checkpoint()
    figures: dict[str, Any] = {}
    writes_ms = [await _first_write_ms(cache, meta) for _ in range(WRITES)]
    integrity = cache.integrity
    seal_s, seal_cpu_s = await _timed(lambda: integrity.sealing.seal(LARGE))
    figures["seal_cpu_s_per_gib"] = round(seal_cpu_s * 2**30 / LARGE_BYTES, 3)
    figures["seal_mib_per_s"] = round(LARGE_BYTES / 2**20 / seal_s)
    path = next((directory / "data").glob("*/*"))
    plain_s, plain_cpu_s = await _timed(lambda: offload.run(_read_only, path))
    scrub_s, scrub_cpu_s = await _timed(lambda: integrity.scrub.whole(lambda *_: None))
    figures["scrub_mib_per_s"] = round(LARGE_BYTES / 2**20 / scrub_s)
    figures["scrub_elapsed_of_plain_read"] = round(scrub_s / plain_s, 2)
    figures["scrub_cpu_s_per_gib"] = round(scrub_cpu_s * 2**30 / LARGE_BYTES, 3)
    figures["plain_read_cpu_s_per_gib"] = round(plain_cpu_s * 2**30 / LARGE_BYTES, 3)
    figures["scrub_cpu_share_at_8_mib_per_s"] = round(scrub_cpu_s * (8 << 20) / LARGE_BYTES, 4)
    sealed_ms = []
    for _ in range(WRITES):
        await integrity.sealing.seal(LARGE)
        sealed_ms.append(await _first_write_ms(cache, meta))
    figures["first_write_ms"], figures["first_write_after_seal_ms"] = (
        round(median(values), 3) for values in (writes_ms, sealed_ms)
    )
    figures |= await _small(cache, meta)
    cache.close()
    meta.close()
    return figures


async def _small(cache: ContentCache, meta: MetaStore) -> dict[str, Any]:
    data = os.urandom(SMALL_BYTES)
    for start in range(0, SMALL_FILES + EMPTY_FILES, 1000):
        with meta.transaction() as tx:
            for number in range(start, start + 1000):
                ino = FIRST_SMALL + number
                placed = cache.packs.append(ino, 1, data) if number < SMALL_FILES else None
                size = SMALL_BYTES if placed is not None else 0
                name = b"s%d" % number
                tx.put(Inode(ino, 1, name, 0o100644, 0, 0, size, 1, 1, 1, dirty_since_ns=1, placement=placed))
    with meta.transaction() as tx:
        tx.remove(LARGE)
    await meta.checkpoint()
    elapsed_s, cpu_s = await _timed(lambda: cache.integrity.scrub.whole(lambda *_: None))
    return {
        f"scrub_cpu_s_of_{SMALL_FILES}_small_files_and_{EMPTY_FILES}_records": round(cpu_s, 2),
        f"scrub_s_of_{SMALL_FILES}_small_files_and_{EMPTY_FILES}_records": round(elapsed_s, 2),
    }


async def _first_write_ms(cache: ContentCache, meta: MetaStore) -> float:
    with cache.using(meta.require(LARGE)) as content:
        begun = time.perf_counter()
        await content.write(0, b"changed")
        took_ms = (time.perf_counter() - begun) * 1000
        await content.persist()
    return took_ms


async def _timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Elapsed and CPU seconds, threads included."""
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - begun_s, time.process_time() - begun_cpu_s


def _read_only(path: Path) -> None:
    with Medium(path) as medium:
        for _piece in medium.pieces(0, LARGE_BYTES):
            pass

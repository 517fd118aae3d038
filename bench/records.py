"""What the records cost: CPU per create, and whether a million inodes are slower or heavier than ten thousand.

Each size runs in a process of its own, so that memory is its own. Anonymous memory is what the program holds; pages of
the LMDB file count as file memory, which the kernel takes back when it needs it.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload

CREATES = 10_000
SIZES = (10_000, 1_000_000)
LOOKUPS = 20_000
PER_DIRECTORY = 1000


def run() -> dict[str, Any]:
    """Figures of both sizes, and their ratio."""
    figures: dict[str, Any] = {"create_cpu_us": _child("create", CREATES)["create_cpu_us"]}
    for size in SIZES:
        figures.update({f"{name}_{size}": value for name, value in _child("size", size).items()})
    small, large = (figures[f"lookup_us_{size}"] for size in SIZES)
    figures["lookup_ratio"] = round(large / small, 2)
    return figures


def _child(what: str, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as directory:
        command = [sys.executable, "-m", "bench.records", what, str(count), directory]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


async def _creates(directory: Path, count: int) -> dict[str, float]:
    """CPU of the transactions one create+write+close makes, the committer's thread included."""
    meta = _open(directory)
    _root(meta)
    before = time.process_time()
    for number in range(count):
        with meta.transaction() as tx:
            ino = tx.new_ino()
            tx.put(Inode(ino, 1, b"f%d" % number, 0o100644, 0, 0, 0, 1, 1, 1, dirty_since_ns=1))
            tx.put(msgspec.structs.replace(tx.require(1), mtime_ns=number))
        with meta.transaction() as tx:
            tx.put(msgspec.structs.replace(tx.require(ino), content_revision=2))
        with meta.transaction() as tx:
            tx.put(msgspec.structs.replace(tx.require(ino), size=100))
    await meta.checkpoint()
    spent = time.process_time() - before
    meta.close()
    return {"create_cpu_us": round(spent / count * 1e6, 1)}


async def _size(directory: Path, count: int) -> dict[str, float]:
    """Fill, reopen, then look names up at random."""
    meta = _open(directory)
    _root(meta)
    await _fill(meta, count)
    meta.close()
    meta = _open(directory)
    idle = _memory_mib()
    chosen = random.Random(1).choices(range(count), k=LOOKUPS)
    begun = time.perf_counter()
    for number in chosen:
        assert meta.lookup(2 + number // PER_DIRECTORY, b"file-%08d" % number) is not None
    lookup_s = time.perf_counter() - begun
    after = _memory_mib()
    meta.close()
    return {
        "lookup_us": round(lookup_s / LOOKUPS * 1e6, 2),
        "memory_open_anonymous_mib": idle["anonymous"],
        "memory_after_lookups_anonymous_mib": after["anonymous"],
        "memory_after_lookups_file_mib": after["file"],
    }


async def _fill(meta: MetaStore, count: int) -> None:
    """Directories first (inodes 2...), then files, as a listing would make them."""
    directories = -(-count // PER_DIRECTORY)
    with meta.transaction() as tx:
        for number in range(directories):
            assert tx.new_ino() == 2 + number
            record = Inode(2 + number, 1, b"dir-%05d" % number, 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(True))
            tx.put(record)
    for first in range(0, count, PER_DIRECTORY):
        with meta.transaction() as tx:
            for number in range(first, min(first + PER_DIRECTORY, count)):
                name = b"file-%08d" % number
                key = f"dir-{first // PER_DIRECTORY:05d}/{name.decode()}"
                remote = Remote(key, "d41d8cd98f00b204e9800998ecf8427e", 1000, 1, 0, 0)
                parent = 2 + first // PER_DIRECTORY
                tx.put(Inode(tx.new_ino(), parent, name, 0o100644, 0, 0, 1000, 1, 1, 1, remote=remote))
        if first // PER_DIRECTORY % 20 == 0:
            await meta.checkpoint()


def _open(directory: Path) -> MetaStore:
    return MetaStore.open(directory, prefix="", clock=SystemClock(), offload=Offload(2))


def _root(meta: MetaStore) -> None:
    with meta.transaction() as tx:
        tx.put(Inode(1, 0, b"", 0o040755, 0, 0, 0, 1, 1, 1, directory=Directory(complete=True)))


def _memory_mib() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"anonymous": round(int(fields["RssAnon"]) / 1024, 1), "file": round(int(fields["RssFile"]) / 1024, 1)}


if __name__ == "__main__":
    work = {"create": _creates, "size": _size}[sys.argv[1]]
    sys.stdout.write(json.dumps(trio.run(work, Path(sys.argv[3]), int(sys.argv[2]))))

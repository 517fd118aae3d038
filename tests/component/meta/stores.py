"""Stores to try things on, and what a crash or a power cut leaves of one.

A crash is a copy of the directory at some moment: it holds what the page cache held. Power loss is the same copy with
what had not been fdatasynced taken away again, as far as the test wants.
"""

import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from gatewayfs.meta.env import Limits, MetaStore
from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import InlineOffload, Offloader

BOOT = "first boot"
SMALL = Limits(map_bytes=1 << 30, segment_bytes=1 << 20)

T = TypeVar("T")


def open_store(
    directory: Path, *, boot: str = BOOT, offload: Offloader | None = None, limits: Limits = SMALL, prefix: str = "p/"
) -> MetaStore:
    return MetaStore.open(
        directory, prefix=prefix, clock=ManualClock(), offload=offload or InlineOffload(), limits=limits, boot=boot
    )


def new_store(directory: Path, **options: object) -> MetaStore:
    """With a root."""
    store = open_store(directory, **options)  # type: ignore[arg-type]
    with store.transaction() as tx:
        tx.put(directory_inode(1, 0, b""))
    return store


def directory_inode(ino: int, parent: int, name: bytes, *, dirty: int = 0, source: str | None = None) -> Inode:
    return Inode(
        ino, parent, name, stat.S_IFDIR | 0o755, 0, 0, 0, 1, 1, 1,
        dirty_since_ns=dirty, directory=Directory(complete=True, listed_ns=1 if source else 0, source=source),
    )  # fmt: skip


def file_inode(ino: int, parent: int, name: bytes, *, dirty: int = 0, size: int = 0, key: str | None = None) -> Inode:
    remote = None if key is None else Remote(key, "etag", size, 0, 1, 1)
    return Inode(
        ino, parent, name, stat.S_IFREG | 0o644, 0, 0, size, 1, 1, 1, dirty_since_ns=dirty, remote=remote
    )  # fmt: skip


def make_directory(store: MetaStore, parent: int, name: bytes, *, dirty: int = 0, source: str | None = None) -> int:
    with store.transaction() as tx:
        ino = tx.new_ino()
        tx.put(directory_inode(ino, parent, name, dirty=dirty, source=source))
    return ino


def make_file(
    store: MetaStore, parent: int, name: bytes, *, dirty: int = 0, size: int = 0, key: str | None = None
) -> int:
    with store.transaction() as tx:
        ino = tx.new_ino()
        tx.put(file_inode(ino, parent, name, dirty=dirty, size=size, key=key))
    return ino


def crashed_copy(store: MetaStore, to: Path) -> Path:
    """What another process would find if ours were killed now."""
    shutil.copytree(store.directory, to)
    return to


def newest_segment(directory: Path) -> Path:
    """The last segment that holds frames."""
    written = [path for path in sorted((directory / "journal").glob("*.log")) if path.read_bytes()[64:68] != bytes(4)]
    return written[-1]


class HeldOffload:
    """Runs each function in a thread, but only once the test says so: for a look at the moment in between.

    ``hold(name)`` keeps calls of functions with that name waiting until ``release``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._held: dict[str, trio.Event] = {}
        self._waiting: dict[str, trio.Event] = {}

    def hold(self, name: str) -> None:
        self._held[name] = trio.Event()
        self._waiting[name] = trio.Event()

    def release(self, name: str) -> None:
        self._held.pop(name).set()

    async def reached(self, name: str) -> None:
        await self._waiting[name].wait()

    async def run(self, fn: Callable[..., T], *args: object, **_options: object) -> T:
        name = fn.__name__
        self.calls.append(name)
        if name in self._held:
            self._waiting[name].set()
            await self._held[name].wait()
        assert threading.current_thread() is threading.main_thread()
        return await trio.to_thread.run_sync(fn, *args)

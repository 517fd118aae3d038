"""Refresh over real records and a fake bucket, with a kernel and a cache that remember what they were told."""

import stat
from contextlib import asynccontextmanager

import msgspec
import trio

from gatewayfs.errors import StoreUnreachable
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Directory, Doomed, Inode
from gatewayfs.refresh.observed import ObservedStore
from gatewayfs.refresh.refresher import Refresh
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import InlineOffload
from gatewayfs.s3.attributes import ShareDefaults
from tests.support.fakestore import FakeObjectStore

replace = msgspec.structs.replace

DEFAULTS = ShareDefaults(file_mode=0o640, directory_mode=0o750, uid=1000, gid=1001)
OURS = {"file-permissions": "0100600", "file-owner": "7", "file-group": "8", "file-mtime": "5000ns"}


class CacheStandIn:
    """Counts handles, and remembers whose bytes were forgotten."""

    def __init__(self):
        self.opens = {}
        self.forgotten = []
        self.rebased = []

    def open_count(self, ino):
        return self.opens.get(ino, 0)

    def forget(self, tx, inode):
        self.forgotten.append(inode.ino)
        return replace(inode, placement=None)

    def rebase(self, tx, inode):
        self.rebased.append(inode.ino)
        return replace(inode, placement=None)


class KernelStandIn:
    def __init__(self):
        self.inodes = []
        self.entries = []

    def invalidate_inode(self, ino, attributes_only):
        self.inodes.append((ino, attributes_only))

    def invalidate_entry(self, parent, name, deleted=0):
        self.entries.append((parent, name, deleted))

    def forget(self):
        self.inodes.clear()
        self.entries.clear()


class Hooked(FakeObjectStore):
    """A bucket whose reading requests can be held up, and whose network can fail.

    ``held[operation]`` is awaited after the answer was made, before it is given: what happens then is newer than it.
    """

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.offline = False
        self.hang = False
        self.held = {}
        self.page_keys_max = 1000
        self.failures = []

    async def _begin(self, operation, key):
        await super()._begin(operation, key)
        if self.hang:
            await trio.sleep_forever()
        if self.offline:
            raise StoreUnreachable("no route to the bucket", operation=operation, key=key)
        if self.failures:
            raise self.failures.pop(0)

    async def _hold(self, operation):
        hook = self.held.get(operation)
        if hook is not None:
            await hook()

    async def head(self, key):
        info = await super().head(key)
        await self._hold("head")
        return info

    async def get(self, key, start, length, *, if_match=None):
        answer = await super().get(key, start, length, if_match=if_match)
        await self._hold("get")
        return answer

    async def list_page(self, prefix, *, delimiter, token="", start_after="", max_keys=1000):
        page = await super().list_page(
            prefix,
            delimiter=delimiter,
            token=token,
            start_after=start_after,
            max_keys=min(max_keys, self.page_keys_max),
        )
        await self._hold("list_page")
        return page


class World:
    """One share. ``w.path("a/b")`` is the record at a path as the records have it now."""

    def __init__(self, directory, *, prefix="", store=None, **settings):
        self.prefix = prefix
        self.clock = ManualClock()
        self.store = store or Hooked()
        self.meta = MetaStore.open(directory, prefix=prefix, clock=self.clock, offload=InlineOffload())
        self.cache = CacheStandIn()
        self.kernel = KernelStandIn()
        self.noticed = []
        self.settings = RefreshSettings(defaults=DEFAULTS, **settings)
        self.refresh = Refresh(
            meta=self.meta,
            store=self.store,
            cache=self.cache,
            clock=self.clock,
            kernel=self.kernel,
            settings=self.settings,
            notice=self.noticed.append,
        )
        self.uploads = ObservedStore(self.store, self.refresh.note_own)
        with self.meta.transaction() as tx:
            tx.put(Inode(1, 0, b"", stat.S_IFDIR | 0o755, 0, 0, 0, 1, 1, 1, directory=Directory(source=prefix)))

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.refresh.run)
            yield self
            nursery.cancel_scope.cancel()

    def close(self):
        self.meta.close()

    # ------------------------------------------------------------------ looking

    def path(self, path):
        inode = self.meta.require(1)
        for name in filter(None, path.split("/")):
            inode = self.meta.lookup(inode.ino, name.encode())
            if inode is None:
                return None
        return inode

    def names(self, path=""):
        directory = self.path(path)
        children = [self.meta.require(ino) for ino in self.meta.children(directory.ino, 0, 10_000_000)]
        return sorted(child.name.decode() + "/" * child.is_directory for child in children)

    def tree(self, ino=1, path=""):
        """Every path with what the records say of it; directories end with "/"."""
        found = {}
        for child_ino in self.meta.children(ino, 0, 10_000_000):
            child = self.meta.require(child_ino)
            name = path + child.name.decode(errors="surrogateescape")
            if child.is_directory:
                found[name + "/"] = None
                found |= self.tree(child_ino, name + "/")
            else:
                found[name] = (child.remote.etag, child.size) if child.remote else "local"
        return found

    async def list_everything(self):
        """As ``ls -R`` would."""
        stack = [1]
        while stack:
            ino = stack.pop()
            await self.refresh.ensure_listed(ino)
            for child in self.meta.children(ino, 0, 10_000_000):
                if self.meta.require(child).is_directory:
                    stack.append(child)

    # ------------------------------------------------------------------ local changes, as vfs and upload make them

    def make(self, path, *, directory=False, dirty=True):
        """A file or directory made here."""
        parent, _, name = path.rpartition("/")
        now = self.clock.time_ns()
        with self.meta.transaction() as tx:
            ino = tx.new_ino()
            tx.put(
                Inode(
                    ino,
                    self.path(parent).ino,
                    name.encode(),
                    (stat.S_IFDIR if directory else stat.S_IFREG) | 0o755,
                    0,
                    0,
                    0,
                    now,
                    now,
                    now,
                    dirty_since_ns=now if dirty else 0,
                    directory=Directory(complete=True, marker_wanted=True) if directory else None,
                )
            )
        return ino

    def edit(self, path):
        inode = self.path(path)
        with self.meta.transaction() as tx:
            tx.put(replace(inode, content_revision=inode.content_revision + 1, dirty_since_ns=self.clock.time_ns()))

    def rename(self, path, to):
        """rename(2) without an existing target."""
        inode = self.path(path)
        parent, _, name = to.rpartition("/")
        directory = inode.directory and replace(inode.directory, children_unsettled=True)
        with self.meta.transaction() as tx:
            tx.put(
                replace(
                    inode,
                    parent=self.path(parent).ino,
                    name=name.encode(),
                    dirty_since_ns=self.clock.time_ns(),
                    directory=directory,
                )
            )
        self.refresh.note_moved(inode.ino)

    def remove(self, path):
        """unlink(2) or rmdir(2), or both for a whole tree; objects are doomed, not yet deleted."""
        inode = self.path(path)
        if inode.is_directory:
            for child in self.meta.children(inode.ino, 0, 100_000):
                self.remove(f"{path}/{self.meta.require(child).name.decode()}")
        with self.meta.transaction() as tx:
            tx.remove(inode.ino)
            if inode.remote is not None:
                tx.doom(Doomed(inode.remote.key, inode.remote.etag, self.clock.time_ns()))

    async def delete_doomed(self):
        """What the reconciler does with doomed objects."""
        for doomed in list(self.meta.iter_doomed()):
            await self.uploads.delete(doomed.key)
            with self.meta.transaction() as tx:
                tx.undoom(doomed.key)


def shown(store, prefix=""):
    """The tree a bucket stands for: directories win over files of the same name."""
    directories, files = set(), {}
    for key, stored in store.raw.items():
        if not key.startswith(prefix) or key == prefix:
            continue
        parts = key[len(prefix) :].split("/")
        folders, last = parts[:-1], parts[-1]
        path = ""
        for name in folders:
            if not _representable(name):
                break
            path += name + "/"
            directories.add(path)
        else:
            if _representable(last):
                files[path + last] = (stored.etag, len(stored.data))
    tree = dict.fromkeys(directories)
    return tree | {path: what for path, what in files.items() if path + "/" not in directories}


def _representable(name):
    return name not in ("", ".", "..") and "\0" not in name and len(name.encode()) <= 255

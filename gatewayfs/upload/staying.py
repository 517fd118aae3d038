"""What stays here on purpose.

    held       changes below a path that somebody holds back, until they are released (a human gate)
    excluded   names that never leave this site (``upload.exclude``)

A hold covers a path as it was when the hold began, and the file or directory that was there, wherever it is moved. An
entry is held when its name, the key of its object in the bucket, or the prefix a directory is still listed from is
covered. So nothing changes in the bucket below a held path, neither by what is there now nor by what was moved away;
and a held directory that is renamed stays held.

An excluded file is nobody's work once its bytes are all here and no object of ours is left in the bucket. It stays
dirty in the records: so it is never evicted, never taken for removed by others, and ``recover`` finds it.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence

import msgspec

from gatewayfs.cache.content import ContentCache
from gatewayfs.errors import StaleInode, UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Inode
from gatewayfs.types import ROOT_INO
from gatewayfs.upload import records
from gatewayfs.upload.entries import Aside, Target
from gatewayfs.upload.plan import content_differs, differs, wants_object

SETTING = "holds"
"""Setting: a list of ``Hold`` as JSON."""

HOLDS_MAX = 100
"""Each is compared with every entry that becomes due."""


class Hold(msgspec.Struct, frozen=True):
    """One path whose changes stay here. ``path`` is relative to the share, "" for all of it; ``ino`` was there."""

    path: str
    ino: int
    since_ns: int


class Holds:
    """The holds of a share; they survive restarts."""

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta
        raw = meta.setting(SETTING)
        self.all: tuple[Hold, ...] = tuple(msgspec.json.decode(raw, type=list[Hold])) if raw else ()

    def __repr__(self) -> str:
        return f"<Holds {[hold.path for hold in self.all]}>"

    def add(self, path: str, ino: int, now_ns: int) -> None:
        """Hold ``path``, which is ``ino`` now; nothing happens where it is held already. Raises UserError."""
        if any(hold.path == path and hold.ino == ino for hold in self.all):
            return
        if len(self.all) >= HOLDS_MAX:
            raise UserError(f"at most {HOLDS_MAX} paths can be held", "hold a directory above them instead")
        self._keep((*self.all, Hold(path, ino, now_ns)))

    def remove(self, path: str) -> Sequence[Hold]:
        """End the holds at and below ``path``, as it was or is called; returns them."""
        ended = [hold for hold in self.all if any(is_below(place, path) for place in self._places(hold))]
        if ended:
            self._keep(tuple(hold for hold in self.all if hold not in ended))
        return ended

    def over(self, *keys: str | None) -> Hold | None:
        """The hold that covers any of the object keys (or prefixes), if there is one."""
        for hold in self.all:
            for place in self._places(hold):
                if any(key is not None and is_below(key.rstrip("/"), self._meta.prefix + place) for key in keys):
                    return hold
        return None

    def of(self, inode: Inode, key: str) -> Hold | None:
        """The hold that covers an inode that wants to be at ``key``."""
        if not self.all:
            return None
        source = inode.directory.source if inode.directory is not None else None
        return self.over(key, inode.remote.key if inode.remote is not None else None, source)

    def _places(self, hold: Hold) -> set[str]:
        """Paths the hold covers: as it was called, and as it is called now."""
        try:
            now = b"/".join(self._meta.path_of(hold.ino)).decode()
        except (StaleInode, UnicodeDecodeError):
            return {hold.path}
        return {hold.path, now}

    def _keep(self, holds: tuple[Hold, ...]) -> None:
        with self._meta.transaction() as tx:
            tx.put_setting(SETTING, msgspec.json.encode(holds) if holds else None)
        self.all = holds


def is_below(path: str, top: str) -> bool:
    """Whether ``path`` is ``top`` or below it; "" and what ends with "/" have everything below them."""
    return not top or path == top.rstrip("/") or path.startswith(top if top.endswith("/") else top + "/")


class Excludes:
    """Names that never leave the site.

    Args:
        patterns: as ``fnmatch`` takes them: compared with each name on a path, or, with a "/" in it, with the path
            from the share's root of the file and of each directory above it.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._name = _any_of([pattern for pattern in patterns if "/" not in pattern])
        self._path = _any_of([pattern.strip("/") for pattern in patterns if "/" in pattern])

    def __bool__(self) -> bool:
        return self._name is not None or self._path is not None

    def match(self, path: str) -> bool:
        """Whether the file or directory at ``path``, relative to the share, stays here."""
        names = path.strip("/").split("/")
        if self._name is not None and any(map(self._name, names)):
            return True
        return self._path is not None and any(
            self._path("/".join(names[:length])) for length in range(1, len(names) + 1)
        )


def _any_of(patterns: Sequence[str]) -> Callable[[str], object] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))).match if patterns else None


class Staying:
    """Tells which entries stay here, and why."""

    def __init__(self, meta: MetaStore, cache: ContentCache, excludes: Excludes) -> None:
        self._meta, self._cache, self._excludes = meta, cache, excludes
        self.holds = Holds(meta)
        cache.room.excluded = self.excludes

    def why(self, target: Target) -> Aside | None:
        """Why nothing is to be done for ``target`` now; None when there is something to do or to settle."""
        if isinstance(target, str):
            return Aside.HELD if self._holds_doomed(target) else None
        inode = self._meta.inode(target)
        key = records.wanted_key(self._meta, inode) if inode is not None else None
        if inode is None or key is None or not differs(inode, key):
            return None
        if self.excluded(key) and self._rests(inode, key):
            # A directory above it may have been renamed: then its own record did not change.
            self._cache.rebook(target)
            return Aside.EXCLUDED
        return Aside.HELD if self.holds.of(inode, key) is not None else None

    def excluded(self, key: str) -> bool:
        """Whether what has this object key by its name never leaves the site."""
        return self._excludes.match(key.removeprefix(self._meta.prefix))

    def excludes(self, inode: Inode) -> bool:
        """Whether an inode never leaves the site, by the name it has now."""
        if not self._excludes or not inode.linked:
            return False
        try:
            return self.excluded(self._meta.key_of(inode))
        except StaleInode:
            return False

    def heir_of(self, key: str) -> Inode | None:
        """The inode whose name asks for ``key`` and that shall have an object there."""
        meta = self._meta
        if not key.startswith(meta.prefix) or self.excluded(key):
            return None
        directory = key.endswith("/")
        inode = meta.inode(ROOT_INO)
        for name in key.removeprefix(meta.prefix).rstrip("/").split("/"):
            inode = meta.lookup(inode.ino, name.encode()) if inode is not None and name else inode
        if inode is None or inode.is_directory is not directory or not wants_object(inode, key):
            return None
        return inode

    def _holds_doomed(self, key: str) -> bool:
        if not self.holds.all:
            return False
        # What waits for a held inode to put its object there waits as long.
        heir = self.heir_of(key)
        return self.holds.over(key) is not None or (heir is not None and self.holds.of(heir, key) is not None)

    def _rests(self, inode: Inode, key: str) -> bool:
        """Nothing of an excluded inode is anywhere else, or on its way."""
        unsettled = inode.directory is not None and inode.directory.children_unsettled
        if unsettled or self._meta.upload_state(inode.ino) is not None:
            return False
        if inode.remote is None:
            return True
        # Others put it there: it stays, and what was changed here must not depend on it.
        return inode.remote.key == key and not self._lacks_bytes(inode)

    def _lacks_bytes(self, inode: Inode) -> bool:
        return inode.is_regular and content_differs(inode) and not self._cache.is_resident(inode)

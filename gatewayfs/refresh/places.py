"""Where in the namespace a key of the bucket belongs, and whether anything here depends on it.      [never asks]

A notice names a key; what it means is decided by the records alone, before any request:

    an inode was read from this very key         FILE       look at the object
    a directory is listed from it ("a/b/")       DIRECTORY  look at what is below it
    no such name in a directory we know          NEW        look whether there is one now
    ... in a directory that nobody has listed    nothing: it is listed on first use; when a key went, whether that was
                                                 the last one, for then the directory is gone
    changed here and not uploaded yet            nothing: the upload compares, a difference is its conflict
    a write of ours is under way, or unanswered  BUSY       after it, the answer may be the last word, or not
    its directory was made or moved here         MOVING     the same, but it may take long
"""

import enum
from dataclasses import dataclass

from gatewayfs.meta.schema import Inode
from gatewayfs.refresh import markers
from gatewayfs.refresh.apply import Applier
from gatewayfs.refresh.diff import name_of
from gatewayfs.refresh.listing import Lister
from gatewayfs.types import ROOT_INO


class Kind(enum.Enum):
    """See the module's table."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    NEW = enum.auto()
    NOTHING = enum.auto()
    BUSY = enum.auto()
    MOVING = enum.auto()


@dataclass(frozen=True, slots=True)
class Place:
    """A key's place, as the records are now.

    Attributes:
        ino: FILE, DIRECTORY: the inode. NEW: the directory that would get a name. NOTHING: the one that
            nobody has listed, or 0.
        name: NEW: that name.
        source: NEW: the prefix that directory is listed from. DIRECTORY: its own.
        prefix: NEW: where the name would be a directory, its prefix; "" where it would be a file.
    """

    kind: Kind
    ino: int = 0
    name: bytes = b""
    source: str = ""
    prefix: str = ""


NOTHING = Place(Kind.NOTHING)
BUSY = Place(Kind.BUSY)
MOVING = Place(Kind.MOVING)


class Places:
    """Finds them."""

    def __init__(self, applier: Applier, lister: Lister) -> None:
        self._applier = applier
        self._meta = applier.meta
        self._lister = lister

    def visible(self, key: str) -> str | None:
        """The key to look at for ``key``: itself, or, where no path can stand for it, the last directory that one can.

        None where there is none, or the key is not below the share's prefix.
        """
        source = self._root_source()
        if not key.startswith(source):
            return None
        parts = key[len(source) :].split("/")
        for at, part in enumerate(parts):
            if name_of(part) is None and not (at == len(parts) - 1 and part == ""):
                return source + "/".join(parts[:at]) + "/" if at else None
        return key

    def find(self, key: str) -> Place:
        """The place of a ``visible`` key.

        A settled directory that was made here is known to be listed from its own place from now on.
        """
        source = self._root_source()
        if key == source:
            return Place(Kind.DIRECTORY, int(ROOT_INO), source=key)
        if self._attempted(key):
            return BUSY
        holder = self._meta.holder(key)
        if holder is not None and holder.linked and holder.directory is None:
            return NOTHING if holder.dirty_since_ns else Place(Kind.FILE, holder.ino)
        return self._walk(key, source, [part.encode() for part in key[len(source) :].split("/") if part])

    def _root_source(self) -> str:
        directory = self._meta.require(ROOT_INO).directory
        assert directory is not None
        return directory.source or ""

    def _walk(self, key: str, source: str, names: list[bytes]) -> Place:
        ino = int(ROOT_INO)
        for at, name in enumerate(names):
            last = at == len(names) - 1
            child = self._meta.lookup(ino, name)
            below = f"{source}{name.decode()}/"
            if last and not key.endswith("/"):
                return self._new(key, ino, name, source, child, "")
            if child is None or child.directory is None:
                return self._new(key, ino, name, source, child, below)
            if child.directory.source is None and not child.dirty_since_ns:
                markers.adopt(self._applier, child.ino)
                child = self._meta.require(child.ino)
            assert child.directory is not None
            if child.directory.source != below:
                return MOVING
            if last:
                return Place(Kind.DIRECTORY, child.ino, source=below)
            ino, source = child.ino, below
        raise AssertionError("a key has at least one name")

    def _new(self, key: str, ino: int, name: bytes, source: str, child: Inode | None, prefix: str) -> Place:
        if child is not None and (child.directory is not None or child.dirty_since_ns or child.remote is None):
            return NOTHING  # hidden by a directory of the name, or by what was made here and is not uploaded
        if not self._is_known(ino):
            return Place(Kind.NOTHING, ino)
        if self._meta.doomed(key) is not None or self._applier.motion.claims.claimant(self._meta, key, ino):
            return MOVING
        return Place(Kind.NEW, ino, name, source, prefix)

    def _is_known(self, ino: int) -> bool:
        """Whether anybody was told which names this directory has."""
        directory = self._meta.require(ino).directory
        complete = directory is not None and directory.complete
        return complete or self._meta.has_children(ino) or self._lister.is_listing(ino)

    def _attempted(self, key: str) -> bool:
        return any(attempt.key == key for _, state in self._meta.iter_uploads() for attempt in state.attempts)

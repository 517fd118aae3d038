"""What somebody wants in the cache for good.

A pin is a file or a directory, by its inode number: it covers everything below, and goes where it is moved. It is also
a place, (directory, name): programs that save a file write a new one and rename it over the old, so whatever takes
over the place of a pinned inode that is gone takes over its pin.

    setting "pins"   the pins, as JSON: pinning a tree of a million files is one small record
    covered?         the inode or a directory above it is a pin: a walk up, only while there are pins
    kept?            covered, and pinned bytes take ``PINNED_SHARE`` of the cache at most (``room`` counts them)

Nothing is written into the records of what is below, so a tree moved under a pin, or out of it, is (not) covered at
once. What the books say of its bytes may be behind: ``evicting`` asks here before anything leaves, and
``daemon.pinning`` looks at what ``pending`` names, and fetches what is not here.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec
import trio

from gatewayfs.cache.live import Content
from gatewayfs.cache.residence import lacks
from gatewayfs.cache.room import Room
from gatewayfs.errors import StaleInode, UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.reader import DEPTH_MAX
from gatewayfs.meta.schema import Inode
from gatewayfs.meta.transaction import Transaction
from gatewayfs.types import ROOT_INO

SETTING = "pins"

PINS_MAX = 1000
"""All of them are one record."""

PINNED_SHARE = 0.75
"""Of the cache, for what is pinned: writers and everybody else need the rest."""


class Pin(msgspec.Struct, frozen=True):
    """A file or directory kept here. ``path``: relative to the share, as it was called when it was pinned."""

    path: str
    ino: int
    parent: int
    name: bytes
    since_ns: int


class Pins:
    """The pins of a share; they survive restarts.

    Args:
        room: the books, which ask here what is covered.
        live: the live content of a file in use.

    Attributes:
        pending: inodes to be looked at: pinned or not any more, moved, or not all here.
    """

    def __init__(
        self, meta: MetaStore, room: Room, live: Callable[[int], Content | None], cache_bytes_max: float
    ) -> None:
        self._meta, self._live = meta, live
        room.pinned, room.pinned_bytes_max = self.covers, cache_bytes_max * PINNED_SHARE
        self.pending: set[int] = set()
        self._changed = trio.Event()
        self._directories: set[int] = set()
        """Directories that were found covered: should one not be any more, all below it must be looked at."""
        raw = meta.setting(SETTING)
        self._saved: tuple[Pin, ...] = msgspec.json.decode(raw, type=tuple[Pin, ...]) if raw else ()
        self._by_ino: dict[int, Pin] = {}
        self._by_place: dict[tuple[int, bytes], Pin] = {}
        for pin in self._saved:
            self._note(pin)
        for pin in self._saved:
            self._follow(meta.inode(pin.ino), pin)
        self.look_at_all()

    def __repr__(self) -> str:
        return f"<Pins {self.paths}, {len(self.pending)} to look at>"

    def __bool__(self) -> bool:
        return bool(self._by_ino)

    @property
    def paths(self) -> Sequence[str]:
        """Every pin by its present path; one whose file is gone by the last."""
        return sorted(map(self.path_of, self._by_ino.values()))

    def path_of(self, pin: Pin) -> str:
        """What a pin is called now. "" is the whole share."""
        if pin.ino == ROOT_INO:
            return ""
        try:
            return b"/".join((*self._meta.path_of(pin.parent), pin.name)).decode(errors="replace")
        except StaleInode:
            return pin.path

    # ------------------------------------------------------------------ questions

    def covers(self, inode: Inode) -> bool:
        """Whether the inode, or a directory above it, is pinned."""
        if not self._by_ino:
            return False
        current: Inode | None = inode
        for _ in range(DEPTH_MAX):
            if current is None or not current.linked:
                return False
            if current.ino in self._by_ino:
                return True
            current = self._meta.inode(current.parent) if current.parent else None
        return False

    # ------------------------------------------------------------------ changes

    def add(self, path: str, inode: Inode, now_ns: int) -> None:
        """Pin ``inode``, which ``path`` names. Raises UserError, NoSpace, LocalError."""
        if inode.ino in self._by_ino:
            return
        if len(self._by_ino) >= PINS_MAX:
            raise UserError(f"at most {PINS_MAX} paths can be pinned", "pin a directory above them instead")
        pin = Pin(path, inode.ino, inode.parent, inode.name, now_ns)
        self._write((*self._by_ino.values(), pin))
        self._note(pin)
        self.look([inode.ino])

    def remove(self, path: str) -> Sequence[Pin]:
        """End the pins at and below ``path``; returns them. Raises NoSpace, LocalError."""
        below = f"{path}/" if path else ""
        places = {pin.ino: self.path_of(pin) for pin in self._by_ino.values()}
        ended = [self._by_ino[ino] for ino, now in places.items() if now == path or now.startswith(below)]
        self._write(tuple(pin for pin in self._by_ino.values() if pin not in ended))
        for pin in ended:
            self._forget(pin)
        self.look(pin.ino for pin in ended)
        return ended

    def save(self) -> None:
        """Write down what was noticed: where pins moved, whose places are gone. Raises NoSpace, LocalError."""
        for pin in list(self._by_ino.values()):
            if self._meta.inode(pin.ino) is None and self._meta.inode(pin.parent) is None:
                self._forget(pin)
        pins = tuple(self._by_ino.values())
        if pins != self._saved:
            self._write(pins)

    def watch(self, tx: Transaction) -> None:
        """Records changed: pins move with their inodes, and what is new below them is to be looked at."""
        if not self._by_ino:
            return
        for ino in tx.inodes.keys() & self._by_ino.keys():
            self._follow(tx.inodes[ino], self._by_ino[ino])
        for ino, inode in tx.inodes.items():
            if inode is None:
                self._directories.discard(ino)
                continue
            self._take_over(inode)
            if inode.is_directory:
                if self.covers(inode) is not (ino in self._directories):
                    self.look([ino])
            elif inode.is_regular and lacks(inode, self._live(ino)) and self.covers(inode):
                self.look([ino])

    def found(self, directory: Inode, *, covered: bool) -> None:
        """A directory was looked at, and so was, or will be, all below it."""
        if covered:
            self._directories.add(directory.ino)
        else:
            self._directories.discard(directory.ino)

    # ------------------------------------------------------------------ looking

    def look(self, inos: Iterable[int]) -> None:
        """These inodes must be looked at."""
        self.pending.update(inos)
        if self.pending:
            self._changed.set()

    def look_at_all(self) -> None:
        """Everything pinned must be looked at."""
        self.look(self._by_ino)

    async def work(self) -> None:
        """Return when there is something to look at, or to ``save``."""
        await self._changed.wait()
        self._changed = trio.Event()

    # ------------------------------------------------------------------ inside

    def _write(self, pins: tuple[Pin, ...]) -> None:
        with self._meta.transaction() as tx:
            tx.put_setting(SETTING, msgspec.json.encode(pins) if pins else None)
        self._saved = pins

    def _note(self, pin: Pin) -> None:
        self._by_ino[pin.ino] = self._by_place[pin.parent, pin.name] = pin

    def _forget(self, pin: Pin) -> None:
        del self._by_ino[pin.ino]
        if self._by_place.get((pin.parent, pin.name)) == pin:
            del self._by_place[pin.parent, pin.name]

    def _follow(self, inode: Inode | None, pin: Pin) -> None:
        """The pinned inode may have moved; its place stays when it is gone."""
        if inode is None or not inode.linked or (inode.parent, inode.name) == (pin.parent, pin.name):
            return
        self._forget(pin)
        self._note(msgspec.structs.replace(pin, parent=inode.parent, name=inode.name))
        self._changed.set()

    def _take_over(self, inode: Inode) -> None:
        pin = self._by_place.get((inode.parent, inode.name))
        if pin is None or pin.ino == inode.ino or not inode.linked:
            return
        gone = self._meta.inode(pin.ino)
        if gone is not None and gone.linked:
            return
        self._forget(pin)
        self._note(msgspec.structs.replace(pin, ino=inode.ino))
        self.look([inode.ino])

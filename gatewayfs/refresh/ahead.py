"""Which attributes will be wanted next.

A directory's children come in inode order, which is the order they were listed in: the order ``ls -l`` asks in. Whoever
asks for two neighbours is taken for a reader in order, and the pool runs ahead of it by a window that doubles up to
``window_max``. A lone ``stat`` costs nothing. Whoever has read the names a moment ago (``begin``) and then asks for one
of the first is believed at once, and so is who says that it reads in order (``advance``).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_MIN = 8
"""What a wrong guess wastes at most, in HEADs."""

WINDOW_BEGUN = 32
"""For who has just read the names: what they were read for is hardly in doubt, and a round trip is worth 32 HEADs."""

BEGUN_S = 1.0
"""A program goes on from names to attributes within this time; a person who saw them types longer."""

NEIGHBOURS = 8
"""Two questions so far apart still count as in order: some children are known already, and nobody asks for them."""

READERS_MAX = 256
"""Directories whose reading position is remembered."""


@dataclass(slots=True)
class _Reader:
    window: int
    first: int
    last: int
    believed_until: float = 0.0


class ReadAhead:
    """Positions of directory readers.

    Args:
        children: ``MetaStore.children``.
        now_s: a clock for ``begin``.
    """

    def __init__(
        self, children: Callable[[int, int, int], list[int]], window_max: int, now_s: Callable[[], float]
    ) -> None:
        self._children = children
        self._window_max = window_max
        self._now_s = now_s
        self._readers: OrderedDict[int, _Reader] = OrderedDict()

    def begin(self, parent: int) -> None:
        """Somebody reads the names of ``parent`` from the first on."""
        if not self.runs(parent):
            self._remember(parent, _Reader(0, 0, 0, self._now_s() + BEGUN_S))

    def follow(self, parent: int, ino: int) -> list[int]:
        """Somebody needs the attributes of ``ino``: the children to ask for as well, if it reads in order."""
        reader = self._readers.get(parent)
        if reader is not None and not reader.last and self._now_s() > reader.believed_until:
            reader = None
        if reader is not None and ino != reader.first and self._is_near(reader, parent, ino):
            return self.advance(parent, ino)
        self._remember(parent, _Reader(0, ino, ino))
        return []

    def advance(self, parent: int, ino: int) -> list[int]:
        """A reader in order is at ``ino``: the children to ask for now."""
        reader = self._readers.get(parent)
        if reader is None or not self._is_near(reader, parent, ino):
            reader = _Reader(0, ino, ino)
        elif reader.window and ino <= (reader.first + reader.last) // 2:
            return []
        least = WINDOW_BEGUN if reader.believed_until else WINDOW_MIN
        reader.window = min(max(2 * reader.window, least), self._window_max)
        start = max(ino, reader.last)
        following = self._children(parent, start, reader.window)
        reader.first, reader.last = ino, following[-1] if following else start
        self._remember(parent, reader)
        return following

    def expect(self, parent: int) -> list[int]:
        """Somebody will read this directory in order, and has not begun: its first children, a whole window of them."""
        following = self._children(parent, 0, self._window_max)
        if following:
            self._remember(parent, _Reader(self._window_max, following[0] - 1, following[-1]))
        return following

    def runs(self, parent: int) -> bool:
        """Whether somebody reads (or is expected to read) this directory in order."""
        reader = self._readers.get(parent)
        return reader is not None and reader.window > 0

    def forget(self, parent: int) -> None:
        """The reader is gone."""
        self._readers.pop(parent, None)

    def _is_near(self, reader: _Reader, parent: int, ino: int) -> bool:
        if ino <= reader.last:
            return ino >= reader.first
        return ino in self._children(parent, reader.last, NEIGHBOURS)

    def _remember(self, parent: int, reader: _Reader) -> None:
        self._readers[parent] = reader
        self._readers.move_to_end(parent)
        if len(self._readers) > READERS_MAX:
            self._readers.popitem(last=False)

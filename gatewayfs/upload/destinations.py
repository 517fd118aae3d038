"""Is anything at the keys that copies go to? One LIST for many of them, where CopyObject ignores conditions.

A renamed directory asks this of every new name. The first two looks in a directory are HEADs; where more follow, its
keys are listed, and for ``WINDOW_S`` after a page was asked for it answers for every key between its ends. Only
"nothing is there" is taken from it, and once for each key: what is there must be seen whole, by HEAD, and whoever asks
again asks after a copy of his own whose answer was lost, which others may have replaced by now.

So on such stores a new object that others put at one of these keys is overwritten if it came less than ``WINDOW_S``
before the copy, instead of less than a round trip (docs/semantics.md, ``conflict-kept``).
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from gatewayfs.s3.store import ListPage

WINDOW_S = 1.0
"""As short as is worth a LIST: at 150 to 400 copies a second, one in a hundred requests."""

LOOKS_PER_LIST = 3
"""Never more than one LIST for so many looks: keys that come in the worst order cost a third more than HEADs alone."""

IDLE_S = 10.0
"""A directory without a look for so long begins anew."""

DIRECTORIES_MAX = 100

ListFrom = Callable[[str, str], Awaitable[ListPage]]


@dataclass(frozen=True, slots=True)
class _Page:
    """What is known of a directory's keys after ``after``, up to and including ``through`` (None: to the end)."""

    keys: set[str]
    """What is there, or was said to be vacant and may be there by now."""
    after: bytes
    through: bytes | None
    asked_s: float

    def covers(self, key: bytes) -> bool:
        return self.after < key and (self.through is None or key <= self.through)


@dataclass(slots=True)
class _Directory:
    looked_s: float
    looks: int = 0
    lists: int = 0
    pages: deque[_Page] = field(default_factory=deque)


class Destinations:
    """Answers for keys of many directories.

    Args:
        list_from: one page of a prefix, with "/" as delimiter, of what comes after a key; raises StoreError.
        now_s: monotonic seconds.
    """

    def __init__(self, list_from: ListFrom, now_s: Callable[[], float]) -> None:
        self._list_from, self._now_s = list_from, now_s
        self._directories: dict[str, _Directory] = {}
        self._mutex = trio.Lock()

    def __repr__(self) -> str:
        return f"<Destinations {len(self._directories)} directories>"

    async def vacant(self, key: str) -> bool:
        """True: nothing was at ``key`` within the last ``WINDOW_S``. False: nobody knows, look. Raises StoreError."""
        prefix = key[: key.rfind("/") + 1]
        directory = self._directory(prefix)
        directory.looks += 1
        known = self._known(directory, key)
        if known is None and self._worth(directory):
            async with self._mutex:
                # Whoever had the mutex before may have listed just this.
                known = self._known(directory, key)
                if known is None and self._worth(directory):
                    await self._list(directory, prefix, key)
                    known = self._known(directory, key)
        if known is not True:
            return False
        for page in directory.pages:
            page.keys.add(key)
        return True

    def _directory(self, prefix: str) -> _Directory:
        now_s = self._now_s()
        directory = self._directories.pop(prefix, None)
        if directory is None or now_s - directory.looked_s > IDLE_S:
            directory = _Directory(now_s)
        directory.looked_s = now_s
        self._directories[prefix] = directory
        while len(self._directories) > DIRECTORIES_MAX:
            del self._directories[next(iter(self._directories))]
        return directory

    def _worth(self, directory: _Directory) -> bool:
        return directory.looks >= LOOKS_PER_LIST * (directory.lists + 1)

    def _known(self, directory: _Directory, key: str) -> bool | None:
        """Whether ``key`` is vacant, as far as the pages say."""
        oldest_s = self._now_s() - WINDOW_S
        while directory.pages and directory.pages[0].asked_s < oldest_s:
            directory.pages.popleft()
        encoded = _encoded(key)
        for page in reversed(directory.pages):
            if page.covers(encoded):
                return key not in page.keys
        return None

    async def _list(self, directory: _Directory, prefix: str, key: str) -> None:
        """The first page of a directory or, where that is known and ends before ``key``, one that begins with it."""
        after = key[:-1] if directory.pages else ""
        asked_s = self._now_s()
        directory.lists += 1
        page = await self._list_from(prefix, after)
        there = [*(found.key for found in page.objects), *page.prefixes]
        through = max(map(_encoded, there), default=b"") if page.next_token else None
        if through is not None and not _in_order([found.key for found in page.objects]):
            # Some stores list in an order of their own: then only a whole listing says anything.
            return
        directory.pages.append(_Page(set(there), _encoded(after), through, asked_s))


def _in_order(keys: list[str]) -> bool:
    """Whether the keys prove an order; one alone proves nothing."""
    encoded = [_encoded(key) for key in keys]
    return len(encoded) > 1 and encoded == sorted(encoded)


def _encoded(key: str) -> bytes:
    """Stores order keys by their bytes."""
    return key.encode("utf-8", "surrogateescape")

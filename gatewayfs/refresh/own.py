"""Which keys this gateway itself changed while an answer was on its way.

A LIST or HEAD tells of one moment; by the time it is applied, our own PUT or DELETE of a key may have been sent,
answered and recorded. Then the answer is older than the record, and believing it would resurrect a file just deleted
or roll back one just uploaded. While the upload is still under way the record says so (dirty, doomed); for the
moment after, this log does: who asks takes a mark before the request, and ignores what it says of keys noted since.

Keys are remembered only while somebody holds a mark older than them, and at most ``LIMIT`` of them: beyond that, old
marks see every key as changed, which delays news until the next refresh and harms nothing.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT = 100_000
"""About 15 MB; a listing of many minutes beside uploads at full speed."""


class OwnRequests:
    """The log of our own changes to the bucket. Synchronous; everything on the loop's thread."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._clock = 0
        self._noted: dict[str, int] = {}  # key -> when; oldest first, because noting again moves a key to the end
        self._marks: Counter[int] = Counter()
        self._forgotten = 0  # everything noted up to here may be missing

    def __repr__(self) -> str:
        return f"<OwnRequests {len(self._noted)} keys, {self._marks.total()} marks>"

    def note(self, key: str) -> None:
        """A request of ours that changed ``key`` was answered (or may have taken effect)."""
        if not self._marks:
            return
        self._clock += 1
        self._noted.pop(key, None)
        self._noted[key] = self._clock
        if len(self._noted) > self._limit:
            oldest = next(iter(self._noted))
            self._forgotten = self._noted.pop(oldest)

    @contextmanager
    def mark(self) -> Iterator[int]:
        """The present, to compare with while the block runs."""
        with self.hold(self._clock) as mark:
            yield mark

    @contextmanager
    def hold(self, mark: int) -> Iterator[int]:
        """A mark that somebody holds, for longer than they do."""
        self._marks[mark] += 1
        try:
            yield mark
        finally:
            self._marks[mark] -= 1
            if not self._marks[mark]:
                del self._marks[mark]
                self._prune()

    def changed(self, key: str, mark: int) -> bool:
        """Whether we changed ``key`` since ``mark``, as far as is known; when in doubt, yes."""
        return mark < self._forgotten or self._noted.get(key, 0) > mark

    def since(self, mark: int) -> list[str] | None:
        """The keys changed since ``mark``; None when some are forgotten."""
        if mark < self._forgotten:
            return None
        found = []
        for key in reversed(self._noted):
            if self._noted[key] <= mark:
                break
            found.append(key)
        return found

    def _prune(self) -> None:
        oldest_mark = min(self._marks, default=self._clock)
        for key in list(self._noted):
            if self._noted[key] > oldest_mark:
                break
            del self._noted[key]

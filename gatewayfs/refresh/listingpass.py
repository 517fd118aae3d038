"""The state of one walk over one directory's listing: who waits for it, and how far it is."""

from dataclasses import dataclass, field

from gatewayfs.refresh.diff import passed
from gatewayfs.refresh.inoset import InoSet
from gatewayfs.refresh.settings import Tally
from gatewayfs.refresh.waiting import Shared
from gatewayfs.s3.store import ListedObject

SHADOWS_MAX = 1000
"""Objects hidden by a directory that may turn out to be gone; more of them appear with the next refresh."""


@dataclass(slots=True)
class ListingPass:
    """One walk over the listing of a directory, from its first page to the sweep of what was not on any.

    Attributes:
        ino: the directory. source: the prefix listed; if the directory's differs later, the walk is void.
        renewing: the directory was listed before: count what is new, and ask for attributes again.
        recursive: subdirectories listed before will be listed again, too; ``subdirectories`` collects them.
        mark: of ``OwnRequests``, taken before the first request.
        seen: children shown so far; None when there were none at the start, so nothing can be missing.
        tell: the kernel may remember that a name does not exist, so it must hear of each that appears.
        begun_ns: the time before the first request: what others changed since may be missing. 0: no whole listing.
        covered: everything up to this key was shown. ordered: pages came in key order so far.
    """

    ino: int
    source: str
    renewing: bool
    recursive: bool
    mark: int
    seen: InoSet | None
    tell: bool
    begun_ns: int = 0
    covered: str = ""
    ordered: bool = True
    marker_seen: bool = False
    shadows: dict[bytes, ListedObject] = field(default_factory=dict)
    subdirectories: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def saw(self, ino: int) -> None:
        if self.seen is not None:
            self.seen.add(ino)

    def has_seen(self, ino: int) -> bool:
        """Whether a row of this walk stood for the child ``ino``."""
        return self.seen is None or ino in self.seen

    def hide(self, name: bytes, row: ListedObject) -> None:
        """``row`` cannot be shown because a directory has its name."""
        if len(self.shadows) < SHADOWS_MAX:
            self.shadows[name] = row

    def advance(self, first: str, last: str) -> None:
        """A page from key ``first`` to ``last`` was applied. Some stores (S3 Express) list in no order."""
        if first < self.covered:
            self.ordered = False
        self.covered = max(self.covered, last)


class Walk(Shared):
    """A listing under way, shared by everybody who waits for it."""

    def __init__(self, ino: int, *, renewing: bool, recursive: bool) -> None:
        super().__init__()
        self.ino = ino
        self.renewing = renewing
        self.recursive = recursive
        self.pages = 0
        self.current: ListingPass | None = None

    def __repr__(self) -> str:
        state = "finished" if self.finished else f"{self.pages} pages"
        return f"<Walk of {self.ino}: {state}>"

    def decided(self, name: bytes) -> bool:
        """Whether the pages so far say what ``name`` is."""
        walk = self.current
        return walk is not None and walk.ordered and passed(walk.source, name, walk.covered)

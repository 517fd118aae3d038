"""What refresh is configured with, what it answers, and what it shows in ``status``."""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields

from gatewayfs.s3.attributes import ShareDefaults

EXAMPLES_MAX = 100
ERRORS_MAX = 20


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """Numbers of ``Refresh``.

    Attributes:
        defaults: attributes of objects whose metadata does not say.
        deadline_s: how long one call may wait for the bucket before it raises Unavailable. The transport serves a
            bounded number of calls at once, so none may wait for ever.
        request_timeout_s: after this long without an answer a request counts as failed and is sent again.
        head_concurrency: HEAD requests in flight. One costs a round trip of 20-50 ms and under 1 ms of CPU: 32 of them
            give about 1,000 files a second.
        head_reserved: of those, kept for files somebody waits for; reading ahead uses the rest.
        ahead_max: how far ``prefetch_attributes`` looks ahead of a directory reader.
        ttl_s: how old the listing of a directory may be that somebody looks into; 0: any age.
        ttl_wait_s: how long one call may wait for it to be renewed.
        stale_while_revalidate: do not wait at all.
        refresh_concurrency: directories re-listed at the same time by one refresh.
        verify_concurrency: listings in flight that find out whether a directory is more than objects in motion.
    """

    defaults: ShareDefaults = field(default_factory=ShareDefaults)
    deadline_s: float = 30.0
    request_timeout_s: float = 30.0
    head_concurrency: int = 32
    head_reserved: int = 8
    ahead_max: int = 64
    ttl_s: float = 0.0
    ttl_wait_s: float = 5.0
    stale_while_revalidate: bool = False
    refresh_concurrency: int = 4
    verify_concurrency: int = 8


@dataclass(slots=True)
class Tally:
    """What listings did; adds up."""

    pages: int = 0
    names: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    kept_dirty: int = 0
    conflicts: int = 0
    shadowed: int = 0
    unrepresentable: int = 0
    lists: int = 0
    heads: int = 0

    def add(self, other: "Tally") -> None:
        for counter in fields(other):
            setattr(self, counter.name, getattr(self, counter.name) + getattr(other, counter.name))


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What one ``refresh`` did.

    Attributes:
        listed: directories compared with the bucket.
        names: files and directories it showed in them.
        added, changed, removed: names that appeared, whose object changed, that went (whole trees count each inode).
        kept_dirty: names where the bucket differs from what we knew, but local changes are not uploaded yet.
        conflicts: of those, the ones where others put another object: the upload will keep both.
        shadowed: keys hidden by a directory (or by a local file) of the same name.
        unrepresentable: keys no POSIX path can hold.
        lists, heads: requests spent.
        errors: one line for each directory that could not be listed.
    """

    listed: int = 0
    names: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    kept_dirty: int = 0
    conflicts: int = 0
    shadowed: int = 0
    unrepresentable: int = 0
    lists: int = 0
    heads: int = 0
    errors: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Requests spent."""
        return self.lists + self.heads


@dataclass(slots=True)
class RefreshProgress:
    """How far one refresh is: what a job keeps, so that it goes on after a restart.

    Attributes:
        since_ns: when it was asked for. A directory whose listing began later is as new as this refresh wants it.
        errors: one line for each directory that could not be listed, the first ``ERRORS_MAX`` of them.
        positions: for each tree that is compared with one stream of LISTs (``flat.py``), by its inode: the last key
            that was applied. Few, as many as run at a time.
    """

    since_ns: int
    listed: int = 0
    tally: Tally = field(default_factory=Tally)
    errors: list[str] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)

    def report(self) -> RefreshReport:
        """What it did so far."""
        counted = asdict(self.tally)
        del counted["pages"]
        return RefreshReport(listed=self.listed, errors=tuple(self.errors), **counted)

    def failed(self, line: str) -> None:
        """A directory could not be listed."""
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(line)


@dataclass(frozen=True, slots=True)
class RefreshStatistics:
    """Counters since the start, and the state now, for ``status``.

    ``shadowed`` and ``unrepresentable`` count keys in directories as last listed, each key once; the examples are the
    latest ``EXAMPLES_MAX`` of them.
    """

    listing_now: int
    ttl_renewals: int
    heads_in_flight: int
    heads_waiting: int
    listings: int
    lists: int
    heads: int
    probes: int
    added: int
    changed: int
    removed: int
    shadowed: int
    unrepresentable: int
    shadowed_examples: tuple[str, ...]
    unrepresentable_examples: tuple[str, ...]
    last_error: str


class Oddities:
    """Keys of one kind that cannot be shown, per directory, with the latest examples."""

    def __init__(self) -> None:
        self._per_directory: dict[int, int] = {}
        self._examples: deque[str] = deque(maxlen=EXAMPLES_MAX)

    @property
    def count(self) -> int:
        return sum(self._per_directory.values())

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(self._examples)

    def replace(self, directory: int, count: int) -> None:
        """A listing of ``directory`` ended and saw ``count`` of them."""
        self._per_directory.pop(directory, None)
        if count:
            self._per_directory[directory] = count

    def show(self, keys: Iterable[str]) -> None:
        """Remember ``keys`` as examples, each once; what is not Unicode in them escaped."""
        for key in keys:
            key = key.encode(errors="backslashreplace").decode()
            if key not in self._examples:
                self._examples.append(key)

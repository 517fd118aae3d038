"""What the uploader says about itself: frozen snapshots, read alike by ``status``, tests and logs."""

from collections import deque
from dataclasses import dataclass, field

from gatewayfs.meta.schema import Parked
from gatewayfs.s3.gate import Unreachable

ERRORS_KEPT = 20


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """One failure, as it is shown to people."""

    at_ns: int
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """One entry a worker has now."""

    target: int | str
    key: str
    doing: str
    size_bytes: int
    for_s: float


@dataclass(frozen=True, slots=True)
class ParkedEntry:
    """One entry that waits for a person."""

    target: int | str
    key: str
    parked: Parked


@dataclass(frozen=True, slots=True)
class HeldPath:
    """A path whose changes stay here until it is released; "/" is the whole share."""

    path: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Entries that stay here on purpose."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What is left to do, for a progress bar."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Renaming:
    """A directory on its way in the bucket: objects that arrived, of those found so far."""

    old: str
    new: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How a drain ended.

    Attributes:
        settled: entries of the call that are in the bucket now.
        left: those that are not, with the reason of each.
        held: how many stay here until somebody releases them.
    """

    settled: int
    left: tuple[ParkedEntry, ...]
    held: int = 0

    @property
    def complete(self) -> bool:
        """Everything written before the call is in the bucket."""
        return not self.left and not self.held


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """The queue at one moment. Rates are means over the last ten seconds or so, bytes per second of bodies sent.

    ``copied_parts`` and ``saved_bytes`` are of edited files: what was copied in the bucket instead of being sent.
    """

    entries: int
    entries_bytes: int
    dirty: int
    doomed: int
    oldest_age_s: float
    in_flight: tuple[InFlight, ...]
    holds: tuple[HeldPath, ...]
    held: Kept
    excluded: Kept
    """Names that never leave the site; not among ``entries``."""
    parked: tuple[ParkedEntry, ...]
    backing_off: int
    unreachable: Unreachable | None
    last_errors: tuple[ErrorNote, ...]
    conflicts: int
    uploaded_files: int
    uploaded_bytes: int
    copied: int
    deleted: int
    copied_parts: int
    saved_bytes: int
    rate_bytes_per_s: float
    body_bytes_in_flight: int
    renames: tuple[Renaming, ...] = ()
    last_conflict: str = ""
    """Its object key."""


@dataclass(slots=True)
class Counters:
    """Totals since start, and the ring of last errors."""

    conflicts: int = 0
    last_conflict: str = ""
    uploaded_files: int = 0
    uploaded_bytes: int = 0
    copied: int = 0
    deleted: int = 0
    copied_parts: int = 0
    saved_bytes: int = 0
    errors: deque[ErrorNote] = field(default_factory=lambda: deque(maxlen=ERRORS_KEPT))
    _rate: float = 0.0
    _rate_at_s: float = 0.0

    def sent(self, length_bytes: int, now_s: float) -> None:
        """``length_bytes`` of a body arrived in the bucket."""
        self.uploaded_bytes += length_bytes
        self._rate = self.rate(now_s) + length_bytes / RATE_WINDOW_S
        self._rate_at_s = now_s

    def rate(self, now_s: float) -> float:
        """Bytes per second, weighing the last ``RATE_WINDOW_S`` seconds most."""
        return float(self._rate * 2.718281828 ** (-(now_s - self._rate_at_s) / RATE_WINDOW_S))


RATE_WINDOW_S = 10.0

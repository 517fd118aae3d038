"""What the uploader is told when it is built: numbers, and callables that reach upward.

``UploadHooks`` is how news leaves this floor: the file system above hands down what the uploader may ask of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayfs.conflict import Policy
from gatewayfs.runtime.fingerprints import LEAF_BYTES, cell_bytes_for
from gatewayfs.runtime.kernel import Kernel
from gatewayfs.s3.attributes import ShareDefaults
from gatewayfs.s3.store import PART_BYTES_MIN
from gatewayfs.upload.layout import Limits, limits_for
from gatewayfs.upload.news import News, Silence

Event = Mapping[str, Any]
"""One thing that happened, for logs and notifications: ``event`` names it, ``key`` says where."""


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Numbers of one share's write-back.

    Attributes:
        settle_s: wait this long after the last change, so that "write temporary, rename over" collapses.
        settle_max_s: but never longer than this after the first change.
        part_bytes: part size of multipart uploads; files up to this size go in one PUT.
        part_bytes_min: the smallest part the store takes, except for the last one.
        cell_bytes: files are compared with what was uploaded before in units of this, larger ones in larger units.
        workers: small files (and copies, deletes) under way at a time.
        big_workers: files of more than one part under way at a time; their parts run in parallel besides.
        huge_workers: the same for files over ``huge_bytes``, which take long.
        huge_bytes: see there. A gibibyte takes a minute and a half at 100 Mbit/s.
        parts_per_file: parts of one file under way at a time.
        inflight_bytes_max: bodies under way at a time, all files together.
        conflict_policy: who keeps the name when both sides changed.
        gateway_name: goes into the names of conflict copies.
        guess_mime_type: give new objects a Content-Type by file name.
        fetch_bytes_max: a rename cycle is broken by downloading its smallest member up to this size; larger ones are
            moved aside within the bucket.
        retry_s_max: longest pause before a failed entry or an unreachable store is tried again.
        parked_retry_s: parked entries are tried again this often.
        defaults: attributes of other people's objects that carry none.
        also_write: the dialect of attributes to write besides our own (``s3.dialects.written``), "" for none.
        exclude: patterns of names that never leave the site (``staying.Excludes``).
        read_only: nothing is ever sent.
    """

    settle_s: float = 2.0
    settle_max_s: float = 60.0
    part_bytes: int = 8 << 20
    part_bytes_min: int = PART_BYTES_MIN
    cell_bytes: int = LEAF_BYTES
    workers: int = 16
    big_workers: int = 4
    huge_workers: int = 2
    huge_bytes: int = 1 << 30
    parts_per_file: int = 4
    inflight_bytes_max: int = 64 << 20
    conflict_policy: Policy = Policy.BUCKET_WINS
    gateway_name: str = "gateway"
    guess_mime_type: bool = True
    fetch_bytes_max: int = 64 << 20
    retry_s_max: float = 300.0
    parked_retry_s: float = 86_400.0
    defaults: ShareDefaults = field(default_factory=ShareDefaults)
    also_write: str = ""
    exclude: tuple[str, ...] = (".nfs*",)
    read_only: bool = False

    def cell_bytes_for(self, size_bytes: int) -> int:
        """The unit in which a file of that size is compared."""
        return cell_bytes_for(size_bytes, min(self.cell_bytes, self.part_bytes))

    def limits_for(self, cell_bytes: int, part_bytes: int) -> Limits:
        """What the parts of an upload may be like."""
        return limits_for(cell_bytes, min(self.part_bytes_min, self.part_bytes), part_bytes)


def no_claimant(key: str, directory: int) -> int:
    """No directory is ever renamed."""
    return 0


def not_noted(ino: int) -> None:
    """Nobody asks."""


@dataclass(frozen=True, slots=True)
class UploadHooks:
    """What the floors above lend.

    Attributes:
        ensure_listed: returns when a directory's children are all known here; raises StoreError.
        flush_live: puts size and times of a file open for writing into its record.
        kernel: told of names and attributes that change behind its back.
        event: takes one event for the log; must return at once and not raise.
        claimant: the renamed directory, its children not all in the queue yet, that whatever lies at a key belongs to;
            0 if to none but that of the inode number given. Until then nobody is recorded as holding such an object,
            and it is nobody else's work either: nothing may be written there.
        note_moved: tells the same one that the directory of this number moves because one above it does.
        news: what is to be told to others.
        archived: told of inodes whose upload needs an object that is in an archive tier.
    """

    ensure_listed: Callable[[int], Awaitable[None]]
    flush_live: Callable[[int], Awaitable[None]]
    kernel: Kernel
    event: Callable[[Event], None]
    claimant: Callable[[str, int], int] = no_claimant
    note_moved: Callable[[int], None] = not_noted
    archived: Callable[[int], None] = not_noted
    news: News = field(default_factory=Silence)

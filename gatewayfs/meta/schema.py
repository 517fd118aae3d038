"""The canon: every record, key layout, sentinel and invariant of the LMDB environment.

One LMDB environment (single unnamed database; one prefix byte per table) holds the namespace, the attributes and the
queue, so a POSIX change is *one* transaction. Records are msgspec structs encoded as MessagePack arrays: fields are
only ever appended, with defaults, so an older record decodes in a newer program (``migrate.py`` handles the rest).

    table      key                              value
    I inode    b"I" + ino(8, big endian)        Inode
    D dentry   b"D" + parent(8) + name          ino(8)
    C child    b"C" + parent(8) + ino(8)        b""             directory order: by child ino, for stable offsets
    K key      b"K" + xxh3_128(object key)(16)  ino(8)          which inode's bytes lie at this key in the bucket
    Q dirty    b"Q" + since_ns(8) + ino(8)      b""             work to do, oldest first
    O orphan   b"O" + ino(8)                    b""             unlinked, perhaps still open; removed at start
    X doomed   b"X" + xxh3_128(object key)(16)  Doomed          an object nobody wants any more, to be deleted
    U upload   b"U" + ino(8)                    UploadState     multipart upload under way, resumed after a restart
    F fingerprints b"F" + ino(8)                Fingerprints    of the bytes of the inode's object, cell by cell
    L seal     b"L" + ino(8)                    Seal            of the bytes of a sparse file that are only here
    B fence    b"B" + ino(8)                    Fence           which of the bytes that are only here are damaged
    P parked   b"P" + ino(8)                    Parked          why an upload is waiting for a person
    E event    b"E" + number(8)                 Event           told to nobody yet, or not to every target
    N settling b"N" + ino(8)                    Settling        uploaded; becomes an event when its writer rests
    T target   b"T" + name                      Target          how far one target of events is
    W waiting  b"W" + notification id(16)       Notification    somebody wants to know when all is in the bucket
    S setting  b"S" + name                      bytes           schema version, share identity, next ino, ...

Invariants, checked by ``check.py``:

* D, C, K, Q and O are derived from I and change in the same transaction as the inode; nobody writes them directly.
* No hard links: an inode has exactly one (parent, name), or parent 0 when it is unlinked (then it is in O).
* ``remote`` is what the bucket holds for this inode as far as we know; the wanted state is the rest of the record.
  The difference is the work to do. ``dirty_since_ns`` != 0 says the reconciler must look; it is cleared only when it
  looked and found no difference.
* An F entry describes the object ``remote`` names (key, etag and size): when that becomes another one, the entry goes
  in the same transaction. It has a table of its own because it may be large (1 MiB for a file of 64 GiB and more) and
  is only read when a file is uploaded. Losing it costs a whole upload, so the recovery log does not copy it.
* An L entry describes the bytes of the inode's present content revision, not in the bucket yet: when that moves on, or
  the bucket has it, the entry goes in the same transaction. Losing it costs a check: the recovery log has no copy.
* A B entry names bytes in the inode's present placement; it goes with that.
* A doomed key is held by no inode (K has no entry for it).
* Inode numbers are allocated upward and never reused, across restarts and crashes.
* An event's number is above every target's ``delivered``, or it would be gone. E, N, T and W are news, not files: the
  recovery log does not copy them.
"""

import stat

import msgspec

from gatewayfs.meta.schema_integrity import Fence, Seal
from gatewayfs.meta.schema_uploads import Attempt, Fingerprints, Source, UploadPart, UploadState
from gatewayfs.types import Ino, ObjectKey

SCHEMA_VERSION = 1

PLACED_IN_PACK = 1
PLACED_IN_FILE = 2


class Remote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the bucket holds for an inode: a file's object, a symlink's object, or a directory's marker."""

    key: str
    etag: str
    """Without quotes. "" when unknown (then writes fall back to HEAD-before-write)."""
    size: int
    last_modified_ns: int
    """As LIST would say it, to the second on most stores; 0 when not yet known (a PUT does not answer it)."""
    content_revision: int
    """The ``Inode.content_revision`` these bytes are."""
    meta_revision: int
    """The ``Inode.meta_revision`` this object's metadata is."""
    version_id: str = ""
    storage_class: str = ""
    marker_mtime_ns: int | None = None
    """Of a directory's marker: the mtime it had when it was read or written last; None when that is not known. The
    directory's own moves on with its entries, and only another one in the marker is news."""


class Placement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the bytes we hold of a regular file lie on the cache disk."""

    kind: int
    """PLACED_IN_PACK: all bytes, in one pack entry. PLACED_IN_FILE: sparse file ``data/xx/<ino>``, some extents."""
    pack: int = 0
    offset: int = 0
    """Offset of the data (after the entry's header) in the pack."""
    length: int = 0
    checksum: int = 0
    """xxh3-64 of the data of a pack entry."""
    extents: tuple[int, ...] = ()
    """Resident byte ranges of a file, flat and sorted: (start, end, start, end, ...); never empty, never touching."""


class Headers(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """System metadata of the object that must survive our edits (see s3.store.ObjectHeaders)."""

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    expires: str = ""
    website_redirect: str = ""
    tag_count: int = 0
    """How many tags a HEAD saw."""


class Directory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What only directories have."""

    complete: bool = False
    """Every child the bucket has under ``source`` has been listed at least once (or the directory was made here)."""
    listed_ns: int = 0
    """When the last complete listing began; 0 never."""
    source: str | None = None
    """Prefix in the bucket ("" or ending with "/") whose listing fills this directory; None when it was made here and
    nothing in the bucket belongs to it yet, or was renamed to where another one's objects still are. Stays the *old*
    prefix while a renamed directory is being moved."""
    children_unsettled: bool = False
    """Renamed (itself or an ancestor): every child must be looked at by the reconciler."""
    marker_wanted: bool = False
    """The bucket shall have a ``dir/`` marker object. False for directories that only exist because keys below do."""
    deepest_bytes: int = 0
    """Upper bound of the length of any path below this directory, relative to it. Grows with links, never shrinks."""
    subdirectories: int = 0
    """How many of the known children are directories; kept by ``Transaction.put``. st_nlink is this plus two."""
    hidden: int = 0
    """Keys below ``source``, as last listed, that no name can stand for, or whose name a directory has. While there are
    any, the directory is not empty, whatever its children."""


class Inode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file, directory, symlink, fifo or socket."""

    ino: int
    parent: int
    """0: unlinked."""
    name: bytes
    """b"" for the root and for unlinked inodes."""
    mode: int
    """Full st_mode, type bits included."""
    uid: int
    gid: int
    size: int
    """Bytes; for a symlink exactly the length of its target."""
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int = 0
    content_revision: int = 1
    """+1 before the first byte changes after a snapshot was taken for upload. 0: bytes as found in the bucket."""
    meta_revision: int = 1
    """+1 for each explicit change of mode, owner, times or xattrs. 0: as found in the bucket."""
    attributes_known: bool = True
    """False while only a LIST told us of it: mode, owner and times are provisional, a HEAD will tell."""
    dirty_since_ns: int = 0
    remote: Remote | None = None
    placement: Placement | None = None
    directory: Directory | None = None
    target: bytes | None = None
    """Symlink target; None for other types and while it has not been fetched."""
    foreign: dict[str, str] | None = None
    """Object metadata that is neither POSIX attributes: user xattrs and what we do not understand, verbatim."""
    headers: Headers | None = None
    rdev: int = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def linked(self) -> bool:
        return self.parent != 0 or self.ino == 1

    def dirty_from(self, now_ns: int) -> int:
        """``dirty_since_ns`` for a record that changes now: the first change counts, and an orphan is nobody's work."""
        return (self.dirty_since_ns or now_ns) if self.linked else 0


class Doomed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object in the bucket that no inode wants: deleted by the reconciler unless an inode takes its key over."""

    key: str
    etag: str
    since_ns: int
    ino: int = 0
    """The unlinked inode whose bytes these are, while it may still be open and read from the bucket; else 0."""
    version_id: str = ""


class Parked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an upload waits for a person (or for tomorrow)."""

    since_ns: int
    reason: str
    code: str = ""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that happened, ready to be told."""

    created_ns: int
    line: bytes
    """The JSON object, one line without its end."""


class Settling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object that was uploaded, while its writer may not be done: what the event will say."""

    key: str
    size: int
    mtime_ns: int


class Target(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far one target of events is."""

    delivered: int
    """Every event up to this number is delivered or given up."""
    dropped: int = 0
    """How many were given up because too many waited."""
    dropped_ns: int = 0
    """When last; 0 never."""


class Notification(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request to be told when everything written by then is in the bucket."""

    requested_ns: int


def ino_bytes(ino: Ino | int) -> bytes:
    """8 bytes, big endian, so that LMDB's byte order is numeric order."""
    return ino.to_bytes(8, "big")


__all__ = [
    "PLACED_IN_FILE",
    "PLACED_IN_PACK",
    "SCHEMA_VERSION",
    "Attempt",
    "Directory",
    "Doomed",
    "Event",
    "Fence",
    "Fingerprints",
    "Headers",
    "Inode",
    "Notification",
    "ObjectKey",
    "Parked",
    "Placement",
    "Remote",
    "Seal",
    "Settling",
    "Source",
    "Target",
    "UploadPart",
    "UploadState",
    "ino_bytes",
]

"""What is the next S3 call for one inode?        [pure]

The reconciler knows one trick: look at what an inode shall be and at what the bucket holds for it, and name the *one*
step that brings them closer. It does the step, records the result and asks again, until the answer is ``Settled``.
Nothing remembers how the difference came about, so whatever happened in between (a crash, ten renames, a deletion) is
just a different question.

    differs                              step
    bytes                                SendContent at the wanted key, then the old key is doomed
    only the name                        Copy with the source's etag, then the old key is doomed
    only attributes                      Copy onto itself with new metadata
    the name is excluded                 KeepHere, then the object is doomed
    directory marker, symlink, fifo      SendSmall: the whole object is in the record
    key held by another inode            WaitFor it to move away (cycles.py breaks circles); Rescue an open unlinked one

Every write says what it expects to find at its key (``Condition``): the object we know there, a doomed one, or none.
An etag of "" means we do not know it: look first.
"""

from dataclasses import dataclass

from gatewayfs.meta.schema import Doomed, Inode, Remote
from gatewayfs.s3.store import Condition
from gatewayfs.types import ETag
from gatewayfs.upload.metadata import small_body


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing differs."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """The inode has no name any more: nothing of it may stay under way."""


@dataclass(frozen=True, slots=True)
class VisitChildren:
    """A renamed directory: everything below must be looked at."""


@dataclass(frozen=True, slots=True)
class Learn:
    """The next write replaces metadata we have not read yet: HEAD the object first."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """The wanted key belongs to the bytes of another inode."""

    ino: int


@dataclass(frozen=True, slots=True)
class Rescue:
    """An unlinked file that is still open reads from the object at the wanted key: bring its bytes here first."""

    ino: int


@dataclass(frozen=True, slots=True)
class KeepHere:
    """The name is one that never leaves the site: bring the bytes here, and let the object go."""


@dataclass(frozen=True, slots=True)
class SendSmall:
    """PUT an object whose body is in the record."""

    key: str
    body: bytes
    condition: Condition


@dataclass(frozen=True, slots=True)
class SendContent:
    """PUT or multipart upload of a regular file."""

    key: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Copy:
    """Server-side copy; onto itself when only attributes changed."""

    source: Remote
    key: str
    condition: Condition
    rewrite: bool
    """Replace the metadata by the record's; False keeps the source's (where the copy is not for long)."""


Step = Settled | CleanUp | VisitChildren | Learn | WaitFor | Rescue | KeepHere | SendSmall | SendContent | Copy


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything ``next_step`` looks at.

    Attributes:
        inode: the record.
        key: the object key its name asks for; None when it has no name.
        holder: the inode other than this one whose bytes lie at ``key``.
        holder_reads: the holder has no name any more, but is open and not all of its bytes are here.
        doomed: the condemned object at ``key``.
        excluded: what has this name never leaves the site.
    """

    inode: Inode
    key: str | None
    holder: Inode | None = None
    holder_reads: bool = False
    doomed: Doomed | None = None
    excluded: bool = False


def next_step(situation: Situation) -> Step:
    """The one step to take now."""
    inode, key = situation.inode, situation.key
    if key is None:
        return CleanUp()
    if inode.directory is not None and inode.directory.children_unsettled:
        return VisitChildren()
    if not differs(inode, key):
        return Settled()
    if situation.excluded:
        return KeepHere()
    holder = situation.holder
    if holder is not None and holder.linked:
        return WaitFor(holder.ino)
    if holder is not None and situation.holder_reads:
        return Rescue(holder.ino)
    return _write(inode, key, _expectation(situation, key))


def differs(inode: Inode, key: str) -> bool:
    """Whether the bucket holds something else than it shall for an inode named ``key``."""
    if inode.directory is not None and inode.directory.children_unsettled:
        return True
    if not wants_object(inode, key):
        return False
    return inode.remote is None or inode.remote.key != key or content_differs(inode) or attributes_differ(inode)


def wants_object(inode: Inode, key: str) -> bool:
    """Whether there shall be an object: for directories only if they have, or shall have, a marker."""
    if inode.directory is None:
        return True
    # The root of a whole bucket has the empty key, and no object can have that.
    return bool(key) and (inode.directory.marker_wanted or inode.remote is not None)


def content_differs(inode: Inode) -> bool:
    """Whether the bucket lacks the present bytes. Directories have none beyond the marker itself."""
    if inode.remote is None:
        return True
    return not inode.is_directory and inode.remote.content_revision != inode.content_revision


def attributes_differ(inode: Inode) -> bool:
    """Whether the bucket lacks the present attributes."""
    return inode.remote is None or inode.remote.meta_revision != inode.meta_revision


def _expectation(situation: Situation, key: str) -> Condition:
    own, holder = situation.inode.remote, situation.holder
    if own is not None and own.key == key:
        return Condition(match=ETag(own.etag))
    if holder is not None and holder.remote is not None:
        return Condition(match=ETag(holder.remote.etag))
    if situation.doomed is not None:
        return Condition(match=ETag(situation.doomed.etag))
    return Condition(absent=True)


def _write(inode: Inode, key: str, condition: Condition) -> Step:
    remote = inode.remote
    learned = inode.attributes_known or remote is None
    if inode.is_regular:
        if remote is None or content_differs(inode):
            return SendContent(key, condition) if learned else Learn()
    else:
        # Others may have put data into a marker, which only a copy keeps.
        marker_data = inode.is_directory and remote is not None and remote.size > 0
        body = None if marker_data else small_body(inode)
        if learned and body is not None:
            # One conditional PUT; a copy would need a look at the destination first on most stores.
            return SendSmall(key, body, condition)
        if remote is None:
            # A symlink nobody can resolve any more: an empty target is all there is to keep.
            return SendSmall(key, b"", condition)
    # For a new name alone, too: an object that others wrote may carry no attributes, and its LastModified is the file's
    # time. A plain copy would move that to now.
    return Copy(remote, key, condition, rewrite=True) if learned else Learn()

"""What one LIST answer means for one directory: names out of keys, and rows judged against records.

Pure functions; ``apply.py`` acts on their verdicts. A LIST with delimiter "/" under a directory's source prefix gives
objects (files, symlinks, and the directory's own marker, whose key is the prefix itself) and common prefixes (its
subdirectories). Each row is judged alone against the child of that name:

    no such child                        ADD         unless its key is in motion (doomed, or held by a renamed inode)
    a directory, for an object           SHADOWED    a path cannot be both; the directory wins, the object is untouched
    a clean file, for a common prefix    SWAP        for the same reason
    a file that is not from this key     LOCAL       made or renamed here, not yet uploaded: upload's conflict, not ours
    same bytes, same time                SAME
    same bytes, our record lacks a fact  LEARN       a PUT does not answer LastModified; the first LIST does
    same bytes, other time               TOUCHED     somebody may have changed metadata: ask again, keep the bytes
    other bytes                          REPLACED
    changed there and dirty here         LOCAL

Text order of keys is UTF-8 byte order, the order of LIST, so keys are compared as they are.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from gatewayfs.meta.schema import Inode, Remote
from gatewayfs.s3.store import ListedObject, ListPage
from gatewayfs.types import KEY_BYTES_MAX, NAME_BYTES_MAX

NS_PER_S = 1_000_000_000


class Verdict(enum.Enum):
    """What a row, or the absence of one, asks for. See the module's table."""

    ADD = enum.auto()
    SAME = enum.auto()
    LEARN = enum.auto()
    TOUCHED = enum.auto()
    REPLACED = enum.auto()
    REMOVED = enum.auto()
    LOCAL = enum.auto()
    SHADOWED = enum.auto()
    SWAP = enum.auto()
    ADOPT = enum.auto()
    """A directory made here, settled, that the bucket now shows: from now on its listing fills it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One LIST page in terms of one directory.

    Attributes:
        marker: the directory's own marker object, if it is on this page.
        files: (name, object) in key order.
        directories: (name, prefix) in key order.
        unrepresentable: keys and prefixes no POSIX name can stand for.
        first, last: least and greatest key of the page, "" for an empty one.
    """

    marker: ListedObject | None
    files: Sequence[tuple[bytes, ListedObject]]
    directories: Sequence[tuple[bytes, str]]
    unrepresentable: Sequence[str]
    first: str
    last: str


def name_of(text: str) -> bytes | None:
    """The POSIX name for one component of a key, or None where there is none.

    None for the empty component, ".", "..", anything with NUL or "/", and names over 255 bytes.
    """
    if text in ("", ".", "..") or "\0" in text or "/" in text:
        return None
    try:
        name = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, from a lenient XML parser
        return None
    return name if len(name) <= NAME_BYTES_MAX else None


def child_key(source: str, name: bytes) -> str | None:
    """The key of a file ``name`` in the directory listed from ``source``; None where there can be no such file."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    key = source + text
    if name_of(text) is None:
        return None
    return key if len(key.encode()) <= KEY_BYTES_MAX else None


def read_page(source: str, page: ListPage) -> Rows:
    """Take a LIST page under ``source`` (delimiter "/") apart."""
    marker: ListedObject | None = None
    files: list[tuple[bytes, ListedObject]] = []
    directories: list[tuple[bytes, str]] = []
    unrepresentable: list[str] = []
    start = len(source)
    for row in page.objects:
        if row.key == source:
            marker = row
        elif (name := name_of(row.key[start:])) is not None:
            files.append((name, row))
        else:
            unrepresentable.append(row.key)
    for prefix in page.prefixes:
        if (name := name_of(prefix[start:-1])) is not None:
            directories.append((name, prefix))
        else:
            unrepresentable.append(prefix)
    ends = [row.key for row in (*page.objects[:1], *page.objects[-1:])] + [*page.prefixes[:1], *page.prefixes[-1:]]
    return Rows(marker, files, directories, unrepresentable, min(ends, default=""), max(ends, default=""))


def passed(source: str, name: bytes, covered: str) -> bool:
    """Whether a listing that has shown everything up to ``covered`` has decided what ``name`` is.

    It has when it is past the file ``name`` *and* past the directory ``name/``: ``name-x`` sorts between the two.
    """
    key = child_key(source, name)
    return key is None or key + "/" <= covered


def same_time(left_ns: int, right_ns: int) -> bool:
    """Compare LastModified: HEAD has whole seconds, some LISTs have fractions, so fractions count only when both do."""
    if left_ns % NS_PER_S and right_ns % NS_PER_S:
        return left_ns == right_ns
    return left_ns // NS_PER_S == right_ns // NS_PER_S


def same_bytes(row: ListedObject, remote: Remote) -> bool:
    """Equal size and etag say equal bytes (etags are opaque, multipart ones too); an unknown etag proves nothing."""
    return row.size == remote.size and remote.etag in ("", row.etag)


def storage_class(text: str) -> str:
    """HEAD leaves STANDARD out, LIST says it."""
    return "" if text == "STANDARD" else text


def judge_object(row: ListedObject, child: Inode | None) -> Verdict:
    """Judge an object against the child of its name."""
    if child is None:
        return Verdict.ADD
    if child.is_directory:
        return Verdict.SHADOWED
    if child.remote is None or child.remote.key != row.key:
        return Verdict.LOCAL
    return judge_remote(row, child.remote, dirty=child.dirty_since_ns != 0)


def judge_remote(row: ListedObject, remote: Remote, *, dirty: bool) -> Verdict:
    """Judge an object (a directory's marker too) against what we know of it. A dirty inode learns nothing here."""
    if not same_bytes(row, remote):
        return Verdict.LOCAL if dirty else Verdict.REPLACED
    if remote.last_modified_ns and not same_time(row.last_modified_ns, remote.last_modified_ns):
        return Verdict.LOCAL if dirty else Verdict.TOUCHED
    complete = remote.etag and remote.last_modified_ns and remote.storage_class == storage_class(row.storage_class)
    return Verdict.SAME if complete or dirty else Verdict.LEARN


def judge_prefix(prefix: str, child: Inode | None) -> Verdict:
    """Judge a common prefix against the child of its name."""
    if child is None:
        return Verdict.ADD
    if child.directory is None:
        ours = child.remote is not None and child.remote.key == prefix[:-1] and not child.dirty_since_ns
        return Verdict.SWAP if ours else Verdict.LOCAL
    if child.directory.source == prefix:
        return Verdict.SAME
    if child.directory.source is None and not child.dirty_since_ns:
        return Verdict.ADOPT
    return Verdict.LOCAL


def judge_absent(source: str, child: Inode) -> Verdict:
    """Judge a child that a whole listing of ``source`` did not show.

    LOCAL where that is a foreign removal of something changed here, SAME where nothing was expected.
    """
    name = child.name.decode(errors="surrogateescape")
    if child.directory is not None:
        # What is dirty below it is found when its tree is taken down, leaf by leaf.
        return Verdict.REMOVED if child.directory.source == f"{source}{name}/" else Verdict.SAME
    if child.remote is None or child.remote.key != source + name:
        return Verdict.SAME
    return Verdict.LOCAL if child.dirty_since_ns else Verdict.REMOVED

"""What was acknowledged, read from the writer's log; and the judge of what is found after a crash.

The writer appends a record when it begins a step and another one when the step was answered, to a file that has nothing
to do with the share. So at any moment the log tells what must be there: every answered step, and of the one under way
(there is at most one) nothing, all, or a state in between that a program could have seen before the crash.

    Began(step)      handed to the share
    Answered(seen)   the call returned; ``seen`` is what stat said then
    Refused(error)   the call failed because the daemon was gone: not answered
    Found(seen)      the whole tree, read after a restart

The judge knows no half: a rename, a chmod, a truncation happened or did not. Only bytes written and not yet closed are
free, and only between the old and the new value of each byte.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import xxhash

from tests.crash.steps import (
    DIRECTORY,
    FILE,
    LINK,
    AnyStep,
    Node,
    Patch,
    Put,
    Step,
    Tree,
    after,
    payload,
    replace,
)


class Seen(msgspec.Struct, frozen=True):
    """One entry as a program sees it. ``digest`` names the bytes (``Blobs``); "" where only stat was asked."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    digest: str = ""
    xattrs: dict[str, bytes] = {}
    clean: bool = False
    """The share's own records say that the bucket has it just like this (only told below the kernel)."""


class Started(msgspec.Struct, frozen=True, tag=True):
    """A process began to start the share."""

    purpose: str


class Found(msgspec.Struct, frozen=True, tag=True):
    entries: list[Seen]


class Began(msgspec.Struct, frozen=True, tag=True):
    step: AnyStep


class Answered(msgspec.Struct, frozen=True, tag=True):
    entries: list[Seen]


class Refused(msgspec.Struct, frozen=True, tag=True):
    error: str


class Draining(msgspec.Struct, frozen=True, tag=True):
    """No further step: everything is on its way to the bucket."""


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The share drained, checked itself and stopped; ``problems`` is what its own check said."""

    problems: list[str]


Record = Started | Found | Began | Answered | Refused | Draining | Finished

_decode = msgspec.json.Decoder(Record).decode
_encode = msgspec.json.Encoder().encode


class Log:
    """Writing side: one ``write`` on an O_APPEND descriptor per record, after what it records."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, record: Record) -> None:
        os.write(self.fd, _encode(record) + b"\n")


class Reader:
    """Reading side: records since the last call. A line cut off by a kill was never recorded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[Record]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield _decode(line)


class Blobs:
    """Bytes by digest, in a directory that writers and judge share."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(exist_ok=True)

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        path = self._directory / digest
        if not path.exists():
            path.write_bytes(data)
        return digest

    def get(self, digest: str) -> bytes:
        return (self._directory / digest).read_bytes()


def digest_of(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


class Lost(AssertionError):
    """Something acknowledged is not there, or something is there that nobody wrote."""


class Ledger:
    """The tree that must be there.

    Attributes:
        tree: after every answered step.
        pending: the step under way when the writer was last heard of.
        answered: how many steps were.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.tree: Tree = {}
        self.pending: AnyStep | None = None
        self.answered = 0
        self._blobs = blobs

    def feed(self, record: Record) -> None:
        """Take the next record. Raises Lost when a ``Found`` tree is not what it must be."""
        match record:
            case Began():
                assert self.pending is None, f"{self.pending} was neither answered nor looked for"
                self.pending = record.step
            case Answered():
                assert self.pending is not None
                self.tree = observed(after(self.tree, self.pending), record.entries)
                self.pending = None
                self.answered += 1
            case Found():
                self.tree = resolve(self.tree, self.pending, record.entries, self._blobs.get)
                self.pending = None
            case Finished():
                assert record.problems == [], f"the share's own check: {record.problems}"
            case Started() | Refused() | Draining():
                pass


def observed(tree: Tree, entries: list[Seen]) -> Tree:
    """The model's tree with times from what stat said; raises Lost when stat contradicts it."""
    new = dict(tree)
    for seen in entries:
        node = new.get(seen.path)
        if node is None:
            raise Lost(f"{seen.path} is there after it was removed")
        if why := attribute_difference(node, seen) or size_difference(node, seen):
            raise Lost(f"right after it was acknowledged, {seen.path} {why}")
        if node.mtime_ns is None and node.kind == FILE:
            new[seen.path] = replace(node, mtime_ns=seen.mtime_ns)
    return new


def resolve(tree: Tree, pending: Step | None, entries: list[Seen], read: Callable[[str], bytes]) -> Tree:
    """The tree that was found, if it may be there after ``tree`` with ``pending`` under way; else raises Lost."""
    found = {seen.path: seen for seen in entries}
    complaints = differences(tree, found)
    if not complaints:
        return settled(tree, found)
    if pending is None:
        raise Lost("; ".join(complaints))
    for candidate in stages(tree, pending, found, read):
        why = differences(candidate, found)
        if not why:
            return settled(candidate, found)
        complaints += why
    raise Lost(f"after a kill during {pending}: " + "; ".join(sorted(set(complaints))))


def settled(tree: Tree, found: dict[str, Seen]) -> Tree:
    """The tree with times that nobody had been told yet taken from what was found."""
    return {
        path: replace(node, mtime_ns=found[path].mtime_ns) if node.kind == FILE and node.mtime_ns is None else node
        for path, node in tree.items()
    }


def stages(tree: Tree, step: Step, found: dict[str, Seen], read: Callable[[str], bytes]) -> Iterator[Tree]:
    """What may be there when ``step`` was under way, besides what was there before."""
    yield after(tree, step)
    seen = found.get(step.path)
    if seen is None or seen.kind != FILE:
        return
    if isinstance(step, Put):
        # Created or cut to nothing, then written from the front: any beginning of the new bytes.
        data = payload(step.seed, step.length)[: seen.size]
        yield {**tree, step.path: replace(tree.get(step.path, Node(FILE)), data=data, mtime_ns=None)}
    elif isinstance(step, Patch):
        data = read(seen.digest)
        if explained(tree[step.path].data, step, data):
            yield {**tree, step.path: replace(tree[step.path], data=data, mtime_ns=None)}


def explained(old: bytes, step: Patch, data: bytes) -> bool:
    """Every byte is the old one or one a piece put there."""
    size_max = max([len(old), *(piece.offset + piece.length for piece in step.pieces)])
    if not len(old) <= len(data) <= size_max:
        return False
    allowed = bytearray(data)
    base = old + bytes(len(data) - len(old))
    free = bytearray(len(data))
    for piece in step.pieces:
        new = payload(piece.seed, piece.length)
        for at in range(piece.offset, min(piece.offset + piece.length, len(data))):
            if data[at] == new[at - piece.offset]:
                free[at] = 1
    for at, same in enumerate(free):
        if same:
            allowed[at] = base[at]
    return bytes(allowed) == base


def differences(tree: Tree, found: dict[str, Seen]) -> list[str]:
    """Every way in which ``found`` is not ``tree``, one line each."""
    lines = [f"{path} is missing" for path in sorted(tree.keys() - found.keys())]
    lines += [f"{path} should not be there" for path in sorted(found.keys() - tree.keys())]
    for path in sorted(tree.keys() & found.keys()):
        node, seen = tree[path], found[path]
        why = attribute_difference(node, seen) or size_difference(node, seen)
        if not why and node.kind != DIRECTORY and digest_of(node.data) != seen.digest:
            why = "has other bytes"
        if not why and node.kind == FILE and node.xattrs != seen.xattrs:
            why = f"has xattrs {seen.xattrs}, not {node.xattrs}"
        if why:
            lines.append(f"{path} {why}")
    return lines


def attribute_difference(node: Node, seen: Seen) -> str:
    """Kind, mode, owner, or (where known) time."""
    if node.kind != seen.kind:
        return f"is a {seen.kind}, not a {node.kind}"
    if node.kind != LINK and node.mode != seen.mode:
        return f"has mode {seen.mode:o}, not {node.mode:o}"
    if (node.uid, node.gid) != (seen.uid, seen.gid):
        return f"belongs to {seen.uid}:{seen.gid}, not {node.uid}:{node.gid}"
    if node.kind == FILE and node.mtime_ns not in (None, seen.mtime_ns):
        return f"has mtime {seen.mtime_ns}, not {node.mtime_ns}"
    return ""


def size_difference(node: Node, seen: Seen) -> str:
    if node.kind != DIRECTORY and len(node.data) != seen.size:
        return f"has {seen.size} bytes, not {len(node.data)}"
    return ""


def found_tree(entries: list[Seen], blobs: Blobs) -> Tree:
    """What was found as a tree, for a writer to go on from."""
    return {
        seen.path: Node(
            seen.kind,
            blobs.get(seen.digest) if seen.kind != DIRECTORY else b"",
            seen.mode,
            seen.uid,
            seen.gid,
            seen.mtime_ns if seen.kind == FILE else None,
            seen.xattrs,
        )
        for seen in entries
    }

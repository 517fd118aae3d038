"""What a writer does, step by step, and what each step does to a tree.

A ``Step`` is one thing an application asks for and is answered: a whole file written and closed, a rename, a chmod.
``after(tree, step)`` is the model: the tree once the step was acknowledged. ``choose`` picks the next step at random,
so that names collide, files outgrow their place on the cache disk, and directories move with what is in them.

Contents are named by a seed, so a log of steps stays small and every byte of it can be made again.
"""

import random
from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec

FILE, DIRECTORY, LINK = "file", "directory", "link"
SMALL_FILE_BYTES = 64 << 10
TREE_BYTES_MAX = 6 << 20
ENTRIES_MAX = 40
NAMES = ("a", "b", "c", "d", "e", "f", "ä ö", "x.txt")
MODES = (0o600, 0o640, 0o644, 0o700, 0o755, 0o777)
OWNERS = (0, 1, 1000, 65534)
SIZES = (0, 1, 100, 4096, SMALL_FILE_BYTES - 1, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 200_000, 700_000, 1_500_000)


class Node(msgspec.Struct, frozen=True):
    """One entry of a tree. ``data`` is a file's bytes or a symlink's target; times are None where nobody knows them."""

    kind: str
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int | None = None
    xattrs: dict[str, bytes] = {}


Tree = dict[str, Node]
"""Entries by path relative to the share's root; the root itself is not in it."""


class Step(msgspec.Struct, frozen=True, tag=True):
    """Something a writer does. ``path`` is what it is mainly about."""

    path: str


class Put(Step, frozen=True, tag=True):
    """Open with O_CREAT | O_TRUNC, write ``length`` bytes in chunks, perhaps fsync, close."""

    seed: int
    length: int
    chunk: int
    sync: bool = False


class Piece(msgspec.Struct, frozen=True):
    """``length`` bytes written at ``offset``."""

    offset: int
    seed: int
    length: int


class Patch(Step, frozen=True, tag=True):
    """Open an existing file, write pieces in place or behind its end, perhaps fsync, close."""

    pieces: tuple[Piece, ...]
    sync: bool = False


class Truncate(Step, frozen=True, tag=True):
    size: int


class Rename(Step, frozen=True, tag=True):
    new: str
    exchange: bool = False


class Mkdir(Step, frozen=True, tag=True):
    mode: int


class Rmdir(Step, frozen=True, tag=True):
    pass


class Unlink(Step, frozen=True, tag=True):
    pass


class Symlink(Step, frozen=True, tag=True):
    target: str


class Chmod(Step, frozen=True, tag=True):
    mode: int


class Chown(Step, frozen=True, tag=True):
    uid: int
    gid: int


class Utimes(Step, frozen=True, tag=True):
    atime_ns: int
    mtime_ns: int


class SetXattr(Step, frozen=True, tag=True):
    name: str
    value: bytes


class RemoveXattr(Step, frozen=True, tag=True):
    name: str


class Sync(Step, frozen=True, tag=True):
    """Open, fsync, close: nothing changes, but from now on not even power loss may take it."""


class Orphan(Step, frozen=True, tag=True):
    """Open, unlink, write into the open file, close: nothing remains."""

    seed: int
    length: int


AnyStep = (
    Put | Patch | Truncate | Rename | Mkdir | Rmdir | Unlink | Symlink
    | Chmod | Chown | Utimes | SetXattr | RemoveXattr | Sync | Orphan
)  # fmt: skip


@lru_cache(maxsize=64)
def payload(seed: int, length: int) -> bytes:
    """The bytes a seed stands for."""
    return random.Random(seed).randbytes(length)


def patched(data: bytes, pieces: tuple[Piece, ...]) -> bytes:
    """``data`` with the pieces written over it; holes are zeros."""
    result = bytearray(data)
    for piece in pieces:
        result.extend(bytes(max(0, piece.offset + piece.length - len(result))))
        result[piece.offset : piece.offset + piece.length] = payload(piece.seed, piece.length)
    return bytes(result)


def parent(path: str) -> str:
    """The directory a path is in; "" is the root."""
    return path.rpartition("/")[0]


def after(tree: Mapping[str, Node], step: Step) -> Tree:
    """The tree once ``step`` was acknowledged. Times that a step sets to "now" become None."""
    new = dict(tree)
    path = step.path
    match step:
        case Put():
            old = new.get(path, Node(FILE))
            new[path] = replace(old, data=payload(step.seed, step.length), mtime_ns=None)
        case Patch():
            new[path] = replace(new[path], data=patched(new[path].data, step.pieces), mtime_ns=None)
        case Truncate():
            data = new[path].data[: step.size]
            new[path] = replace(new[path], data=data + bytes(step.size - len(data)), mtime_ns=None)
        case Rename():
            moved = take(new, path)
            replaced = take(new, step.new)
            new |= {step.new + below: node for below, node in moved.items()}
            if step.exchange:
                new |= {path + below: node for below, node in replaced.items()}
        case Mkdir():
            new[path] = Node(DIRECTORY, mode=step.mode)
        case Symlink():
            new[path] = Node(LINK, data=step.target.encode(), mode=0o777)
        case Unlink() | Rmdir() | Orphan():
            del new[path]
        case Chmod():
            new[path] = replace(new[path], mode=step.mode)
        case Chown():
            new[path] = replace(new[path], uid=step.uid, gid=step.gid)
        case Utimes():
            new[path] = replace(new[path], mtime_ns=step.mtime_ns)
        case SetXattr():
            new[path] = replace(new[path], xattrs={**new[path].xattrs, step.name: step.value})
        case RemoveXattr():
            new[path] = replace(new[path], xattrs={k: v for k, v in new[path].xattrs.items() if k != step.name})
        case Sync():
            pass
        case _:
            raise TypeError(f"no model of {step}")
    return new


def midways(tree: Mapping[str, Node], step: Step) -> Iterator[bytes]:
    """A file's bytes between the writes of one step, as an upload may see them while it is open."""
    if isinstance(step, Put):
        data = payload(step.seed, step.length)
        yield from (data[:end] for end in range(0, len(data), step.chunk))
    elif isinstance(step, Patch):
        yield from (patched(tree[step.path].data, step.pieces[:count]) for count in range(1, len(step.pieces)))


def replace(node: Node, **changes: object) -> Node:
    return msgspec.structs.replace(node, **changes)


def take(tree: Tree, path: str) -> dict[str, Node]:
    """Remove an entry and everything below it; returns it by what follows ``path`` in each name."""
    names = [name for name in tree if name == path or name.startswith(path + "/")]
    return {name[len(path) :]: tree.pop(name) for name in names}


# --------------------------------------------------------------------------- choosing


def choose(rng: random.Random, tree: Tree) -> AnyStep:
    """The next step of a random writer: any of them that can succeed on this tree."""
    files = sorted(path for path, node in tree.items() if node.kind == FILE)
    if files and sum(len(node.data) for node in tree.values()) > TREE_BYTES_MAX:
        return Unlink(max(files, key=lambda path: len(tree[path].data)))
    if len(tree) > ENTRIES_MAX:
        return next(step for step in iter(lambda: _remove(rng, tree, files), 0) if step is not None)
    makers = rng.choices(
        (_put, _patch, _truncate, _rename, _directory, _remove, _link, _attribute, _xattr, _sync, _orphan, _save),
        (24, 12, 6, 14, 6, 6, 3, 10, 4, 4, 2, 4),
        k=20,
    )
    for make in makers:
        step = make(rng, tree, files)
        if step is not None:
            return step
    return _put(rng, tree, files)


def _place(rng: random.Random, tree: Tree, *, taken: bool | None = None) -> str:
    """A path in one of the directories; ``taken`` False: where nothing is yet."""
    directories = ["", *sorted(path for path, node in tree.items() if node.kind == DIRECTORY and path.count("/") < 2)]
    while True:
        directory = rng.choice(directories)
        name = rng.choice(NAMES) + (str(rng.randrange(100)) if taken is False else "")
        path = f"{directory}/{name}" if directory else name
        if taken is None or path not in tree:
            return path


def _put(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep:
    path = _place(rng, tree)
    if path in tree and tree[path].kind != FILE:
        path = _place(rng, tree, taken=False)
    length = rng.choice(SIZES) if rng.random() < 0.5 else rng.randrange(5000)
    chunk = rng.choice((length or 1, 4096, 100_000)) if length < 300_000 else 262_144
    return Put(path, rng.randrange(1 << 30), length, max(chunk, length // 16, 1), rng.random() < 0.1)


def _save(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    """The second half of an editor's save: a file that looks like a temporary one goes over another."""
    return Rename(rng.choice(files), rng.choice(files)) if len(files) > 2 else None


def _patch(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    if not files:
        return None
    path = max(rng.sample(files, min(2, len(files))), key=lambda each: len(tree[each].data))
    size = len(tree[path].data)
    pieces = []
    for _ in range(rng.randint(1, 3)):
        offset = size if rng.random() < 0.4 else rng.randint(0, size + 5000)
        piece = Piece(offset, rng.randrange(1 << 30), rng.choice((1, 100, 5000, 70_000)))
        size = max(size, offset + piece.length)
        pieces.append(piece)
    return Patch(path, tuple(pieces), rng.random() < 0.1)


def _truncate(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    if not files:
        return None
    path = rng.choice(files)
    size = len(tree[path].data)
    return Truncate(path, rng.choice((0, size // 2, size, size + 1, size + 100_000, SMALL_FILE_BYTES)))


def _rename(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    if not tree:
        return None
    old, new = rng.choice(sorted(tree)), _place(rng, tree)
    if new == old or new.startswith(old + "/") or old.startswith(new + "/"):
        return None
    if new not in tree:
        return Rename(old, new)
    if rng.random() < 0.3:
        return Rename(old, new, exchange=True)
    directory = tree[old].kind == DIRECTORY
    if directory != (tree[new].kind == DIRECTORY) or (directory and _has_children(tree, new)):
        return None
    return Rename(old, new)


def _has_children(tree: Tree, path: str) -> bool:
    return any(name.startswith(path + "/") for name in tree)


def _directory(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep:
    return Mkdir(_place(rng, tree, taken=False), rng.choice(MODES))


def _remove(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    if not tree:
        return None
    path = rng.choice(sorted(tree))
    if tree[path].kind != DIRECTORY:
        return Unlink(path)
    return None if _has_children(tree, path) else Rmdir(path)


def _link(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep:
    return Symlink(_place(rng, tree, taken=False), rng.choice(("a", "../ä/b", "/" + "long" * 100)))


def _attribute(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    paths = sorted(path for path, node in tree.items() if node.kind != LINK)
    if not paths:
        return None
    path = rng.choice(paths)
    mtime_ns = rng.randrange(1, 2_000_000_000) * 1_000_000_000 + rng.randrange(1_000_000_000)
    return rng.choice(
        (
            Chmod(path, rng.choice(MODES)),
            Chown(path, rng.choice(OWNERS), rng.choice(OWNERS)),
            Utimes(path, mtime_ns, mtime_ns),
        )
    )


def _xattr(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    if not files:
        return None
    path = rng.choice(files)
    if tree[path].xattrs and rng.random() < 0.4:
        return RemoveXattr(path, rng.choice(sorted(tree[path].xattrs)))
    return SetXattr(path, rng.choice(("one", "two")), rng.randbytes(rng.randrange(40)))


def _sync(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    return Sync(rng.choice(files)) if files else None


def _orphan(rng: random.Random, tree: Tree, files: list[str]) -> AnyStep | None:
    return Orphan(rng.choice(files), rng.randrange(1 << 30), rng.choice((10, 100_000))) if files else None

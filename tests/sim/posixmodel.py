"""A file system in one page: what POSIX says a tree of names does, with nothing below it.

Nodes are Python objects, a directory is a dict, an error is the class ``vfs`` must raise. Times are not computed: a
change that must move a time makes the model *expect* a newer one and take over what it finds (``Node.expect``).
"""

from dataclasses import dataclass, field

from gatewayfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    FsError,
    InvalidArgument,
    IsADirectory,
    NoEntry,
    NotADirectory,
)

FILE, DIRECTORY, SYMLINK, FIFO = "file", "directory", "symlink", "fifo"


class Refused(Exception):
    """The operation must fail with this error, and change nothing."""

    def __init__(self, kind: type[FsError]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


@dataclass(eq=False)
class Node:
    """One file, directory, symlink or fifo. ``changed`` and ``modified``: a newer ctime, mtime is expected."""

    kind: str
    mode: int
    uid: int
    gid: int
    ino: int = 0
    data: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    children: dict[bytes, "Node"] = field(default_factory=dict)
    mtime_ns: int = 0
    ctime_ns: int = 0
    changed: bool = True
    modified: bool = True
    vague: bool = False
    """A change that may have moved its times, or not."""
    implicit: bool = False
    """A directory that exists because keys below it do: it may have a marker object or none."""
    unsettled: list[bytes] = field(default_factory=list)
    """Contents a crash may bring back: those since the last moment that promised the data survives."""

    def touch(self, *, modified: bool = False) -> None:
        self.changed = True
        self.modified |= modified

    def put(self, data: bytes) -> None:
        self.data = data
        self.unsettled.append(data)
        self.touch(modified=True)

    def settle(self) -> None:
        self.unsettled = [self.data]


def no_children(node: Node) -> None:
    if node.children:
        raise Refused(DirectoryNotEmpty)


class Tree:
    """All nodes that have a name, below ``root``."""

    def __init__(self) -> None:
        self.root = Node(DIRECTORY, 0, 0, 0, ino=1)

    def walk(self) -> list[tuple[bytes, Node, Node]]:
        """(path, node, parent), parents first, in name order; the root is not among them."""
        found, waiting = [], [(b"", self.root)]
        while waiting:
            above, parent = waiting.pop(0)
            for name, node in sorted(parent.children.items()):
                found.append((above + name, node, parent))
                if node.kind == DIRECTORY:
                    waiting.append((above + name + b"/", node))
        return found

    def directories(self) -> list[Node]:
        return [self.root, *(node for _, node, _ in self.walk() if node.kind == DIRECTORY)]

    def make(self, parent: Node, name: bytes, node: Node) -> None:
        if name in parent.children:
            raise Refused(EntryExists)
        parent.children[name] = node
        parent.touch(modified=True)

    def unlink(self, parent: Node, name: bytes) -> None:
        if name not in parent.children:
            raise Refused(NoEntry)
        if parent.children[name].kind == DIRECTORY:
            raise Refused(IsADirectory)
        parent.children.pop(name).touch()
        parent.touch(modified=True)

    def rmdir(self, parent: Node, name: bytes) -> None:
        if name not in parent.children:
            raise Refused(NoEntry)
        if parent.children[name].kind != DIRECTORY:
            raise Refused(NotADirectory)
        no_children(parent.children[name])
        del parent.children[name]
        parent.touch(modified=True)

    def rename(self, parent: Node, name: bytes, to: Node, new: bytes, *, exchange: bool, no_replace: bool) -> None:
        if name not in parent.children:
            raise Refused(NoEntry)
        node, target = parent.children[name], to.children.get(new)
        if target is None and exchange:
            raise Refused(NoEntry)
        if target is not None and no_replace:
            raise Refused(EntryExists)
        if target is node:
            return
        if target is not None and not exchange:
            if (node.kind == DIRECTORY) != (target.kind == DIRECTORY):
                raise Refused(NotADirectory if node.kind == DIRECTORY else IsADirectory)
            if not self.inside(to, node):
                no_children(target)
        if self.inside(to, node) or (exchange and target is not None and self.inside(parent, target)):
            raise Refused(InvalidArgument)
        del parent.children[name]
        to.children[new] = node
        if target is not None:
            target.touch()
            if exchange:
                parent.children[name] = target
        node.touch()
        parent.touch(modified=True)
        to.touch(modified=True)

    def inside(self, node: Node, top: Node) -> bool:
        """Whether ``node`` is ``top`` or below it."""
        return node is top or any(self.inside(node, child) for child in top.children.values())

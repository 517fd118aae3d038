"""What may be there after a power loss: the judge of test_power_loss.py.

Names and attributes are those of *some* moment between the last fsync that returned and the loss, all of the same
moment. A file's bytes are those of that moment; only where bytes were changed in place since the file's own last fsync
may each byte be the older or the newer one (as on any file system that does not copy on write).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.ledger import Lost, Seen, attribute_difference, differences, digest_of, size_difference, stages
from tests.crash.steps import (
    FILE,
    AnyStep,
    Node,
    Orphan,
    Patch,
    Piece,
    Put,
    Rename,
    Sync,
    Tree,
    Truncate,
    Unlink,
    patched,
    take,
)


@dataclass
class Version:
    """A file's bytes after one step."""

    step: int
    data: bytes


@dataclass
class Life:
    """One file as long as its bytes are changed in place: until it is removed or cut to nothing."""

    versions: list[Version] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)
    """Steps that fsynced it."""


class Recorded:
    """The history of a recording: every step, the tree after it, and whose bytes are whose."""

    def __init__(self) -> None:
        self.steps: list[AnyStep] = []
        self.trees: list[Tree] = [{}]
        self.lives: list[dict[str, Life]] = [{}]

    def add(self, step: AnyStep, tree: Tree) -> None:
        """``step`` was answered; ``tree`` is there now."""
        number = len(self.trees)
        lives = dict(self.lives[-1])
        if isinstance(step, Rename):
            moved, replaced = take(lives, step.path), take(lives, step.new)  # type: ignore[type-var]
            lives |= {step.new + below: life for below, life in moved.items()}
            if step.exchange:
                lives |= {step.path + below: life for below, life in replaced.items()}
        elif isinstance(step, Unlink | Orphan):
            life = lives.pop(step.path, None)
            if life is not None and isinstance(step, Orphan):
                # Should power loss take the unlink back, what was written into the open file since may be there.
                orphaned = patched(life.versions[-1].data, (Piece(0, step.seed, step.length),))
                life.versions.append(Version(number, orphaned))
        elif isinstance(step, Put) or (isinstance(step, Truncate) and step.size == 0):
            lives[step.path] = Life([Version(number, b"")])
        if isinstance(step, Put | Patch | Truncate):
            lives[step.path].versions.append(Version(number, tree[step.path].data))
        if isinstance(step, Sync) or (isinstance(step, Put | Patch) and step.sync):
            lives[step.path].synced.append(number)
        self.steps.append(step)
        self.trees.append(tree)
        self.lives.append(lives)

    def judge(
        self, answered: int, began: int, floor: int, found: list[Seen], read: Callable[[str], bytes]
    ) -> tuple[int, Tree]:
        """Which moment came up, and its tree. Raises Lost when no moment explains what was found.

        Args:
            answered: steps answered before the loss; began: steps begun.
            floor: the last step known to be safe.
        """
        entries = {seen.path: seen for seen in found}
        complaints: list[str] = []
        for moment in range(answered, floor - 1, -1):
            # A step is several changes of the records (create, then bytes): any of them may be the last that survived.
            partly = stages(self.trees[moment], self.steps[moment], entries, read) if moment < began else ()
            for tree in (self.trees[moment], *partly):
                why = self._differences(moment, tree, began, entries, read)
                if not why:
                    return moment, tree
                complaints.append(f"as of step {moment}: " + "; ".join(why))
        raise Lost(f"no moment from {floor} to {answered} explains what came up: " + " | ".join(complaints[:3]))

    def _differences(
        self, moment: int, tree: Tree, began: int, found: dict[str, Seen], read: Callable[[str], bytes]
    ) -> list[str]:
        mixed = {}
        for path, node in tree.items():
            seen = found.get(path)
            if seen is None or node.kind != FILE or digest_of(node.data) == seen.digest:
                continue
            if not size_difference(node, seen) and not attribute_difference(node, seen):
                data = read(seen.digest)
                if self._explained(path, moment, began, node, data):
                    mixed[path] = Node(node.kind, data, node.mode, node.uid, node.gid, node.mtime_ns, node.xattrs)
        return differences({**tree, **mixed}, found)

    def _explained(self, path: str, moment: int, began: int, node: Node, data: bytes) -> bool:
        """Every byte is of a version between the file's last fsync and the loss."""
        life = self.lives[moment].get(path)
        if life is None:
            return False
        synced = max([0, *(step for step in life.synced if step <= moment)])
        versions = [version for version in life.versions if version.step <= began]
        first = max((at for at, version in enumerate(versions) if version.step <= synced), default=0)
        # Behind the end of a version the file would have read as zeros.
        size = len(node.data)
        padded = [each.data[:size] + bytes(max(0, size - len(each.data))) for each in versions[first:]]
        changed = (at for at in range(len(data)) if data[at] != node.data[at])
        return all(any(version[at] == data[at] for version in padded) for at in changed)

"""What others must hear of a change, said once its transaction is committed."""

from collections.abc import Callable

from gatewayfs.runtime.kernel import Kernel


class News:
    """Collects in a transaction, tells after it."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, bytes, int]] = []
        self._inodes: dict[int, bool] = {}
        self._dirty: list[int] = []

    def appeared(self, parent: int, name: bytes) -> None:
        """``name`` is new: the kernel may remember that it does not exist."""
        self._entries.append((parent, name, 0))

    def gone(self, parent: int, name: bytes, ino: int) -> None:
        self._entries.append((parent, name, ino))

    def stale(self, ino: int, *, attributes_only: bool) -> None:
        """The kernel's attributes and perhaps pages (for a directory: its cached entries) are out of date."""
        self._inodes[ino] = self._inodes.get(ino, True) and attributes_only

    def dirty(self, ino: int) -> None:
        """The uploader has work."""
        self._dirty.append(ino)

    def tell(self, kernel: Kernel, notice: Callable[[int], None]) -> None:
        for parent, name, deleted in self._entries:
            kernel.invalidate_entry(parent, name, deleted)
        for ino, attributes_only in self._inodes.items():
            kernel.invalidate_inode(ino, attributes_only)
        for ino in self._dirty:
            notice(ino)

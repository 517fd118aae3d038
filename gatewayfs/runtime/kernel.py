"""What lower floors may ask of the kernel: to forget.

The kernel caches names, attributes and pages for as long as we allow (docs/architecture.md, "kernel caches"). When the
bucket changes behind it, refresh and upload say so through this protocol; ``fuse/notify.py`` implements it and
``daemon.py`` hands it down. Calls return at once and never fail: telling the kernel happens in a thread.
"""

from typing import Protocol


class Kernel(Protocol):
    """The kernel's caches of one mount."""

    def invalidate_inode(self, ino: int, attributes_only: bool) -> None:
        """Forget the inode's attributes and, unless ``attributes_only``, its cached pages."""
        ...

    def invalidate_entry(self, parent: int, name: bytes, deleted: int = 0) -> None:
        """Forget what ``name`` in ``parent`` is. ``deleted``: the inode that went away, for inotify watchers."""
        ...


class NoKernel:
    """Stands in where nothing is mounted (tests, ``recover``)."""

    def invalidate_inode(self, ino: int, attributes_only: bool) -> None:
        pass

    def invalidate_entry(self, parent: int, name: bytes, deleted: int = 0) -> None:
        pass

"""What the uploader does that others may want to know. Who tells them is the business of another package."""

from typing import Protocol

from gatewayfs.meta.env import Transaction
from gatewayfs.meta.schema import Inode, Remote


class News(Protocol):
    """Hears of it within the transaction that makes it so; must return at once."""

    def uploaded(self, tx: Transaction, inode: Inode, remote: Remote) -> None:
        """The bytes of ``inode`` (which says so already) are at ``remote``, where they were not before."""
        ...

    def conflicted(
        self, tx: Transaction, key: str, resolution: str, *, kept_by: str, copy_key: str | None = None
    ) -> None:
        """Both sides changed the object at ``key``.

        Args:
            resolution: what was done, a ``conflict.Verdict`` in a word.
            kept_by: whose version has the name now, "bucket" or "gateway".
            copy_key: where the other version went.
        """
        ...


class Silence:
    """Nobody wants to know."""

    def uploaded(self, tx: Transaction, inode: Inode, remote: Remote) -> None:
        """Nothing."""

    def conflicted(
        self, tx: Transaction, key: str, resolution: str, *, kept_by: str, copy_key: str | None = None
    ) -> None:
        """Nothing."""

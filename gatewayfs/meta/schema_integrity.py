"""The part of the canon about what the cache disk must give back: tables L and B of ``schema.py``.

A *seal* says what the bytes of a file that is not in the bucket yet are, so that a disk that changes them is found out
before they are uploaded. A *fence* says which bytes turned out not to be what they were: they are the only copy, so
they stay, and nobody gets them.
"""

import msgspec

from gatewayfs.meta.schema_uploads import cells_in


class Seal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fingerprints of the bytes of a sparse file that are only here, as its first snapshot found them."""

    content_revision: int
    """The ``Inode.content_revision`` they are; the entry goes in the transaction that raises it."""
    pack: int
    """``Placement.pack``: the number of the sparse file."""
    size: int
    cell_bytes: int
    """One fingerprint per so many bytes, the last one of what is left."""
    digests: bytes
    """16 bytes each; zeros where not all of a cell was here."""

    @property
    def cells(self) -> list[bytes]:
        """One by one; b"" where it is not known."""
        return cells_in(self.digests)


class Fence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes of a file that are only here and are damaged."""

    kind: int
    pack: int
    offset: int
    """All three as in the ``Placement`` that names them; the entry goes in the transaction that names another."""
    ranges: tuple[int, ...]
    """Of the file's bytes, flat and sorted: (start, end, start, end, ...)."""
    since_ns: int

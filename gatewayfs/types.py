"""The few types every floor shares.

Names are bytes (what the kernel hands us), object keys are text (what S3 takes); the border between
them is crossed once, in ``gatewayfs.meta.paths``. NewTypes cost nothing at run time and keep an inode
number from being passed where a revision is wanted.
"""

from typing import NewType

Ino = NewType("Ino", int)
"""Inode number: 64 bits, allocated upward, never reused."""

ObjectKey = NewType("ObjectKey", str)
"""Full S3 key, the share's prefix included. At most 1024 bytes of UTF-8."""

ETag = NewType("ETag", str)
"""Entity tag without its quotes; stores get it back quoted or bare as they want it."""

Revision = NewType("Revision", int)
"""Local counter: +1 for every change of content (or, separately, of attributes)."""

ROOT_INO = Ino(1)

NAME_BYTES_MAX = 255
"""POSIX NAME_MAX; also what Linux file systems use."""

KEY_BYTES_MAX = 1024
"""Longest object key S3 accepts, in bytes of UTF-8."""

SYMLINK_BYTES_MAX = 4080
"""Longest symlink target EFS takes; below PATH_MAX with room for the NUL."""

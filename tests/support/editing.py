"""A large file on a mount, edited again and again: what each edit costs is counted on the wire, not in our code."""

import hashlib
import os
import random
import shutil
from pathlib import Path

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket

MIB = 1 << 20
EDIT_BYTES_MAX = 5_500_000
"""The promise for 4 KiB in the middle of a large file, both ways: S3's smallest part and the heads of requests."""

TALK_BYTES_MAX = 100_000
"""Requests and answers without content: what any change costs beside its bytes."""


class EditedFile:
    """One file, what it shall hold, and the wire to the bucket.

    Args:
        share: mounted through ``link``.
        size_bytes: of the file at first; some tens of MiB at least.
    """

    def __init__(self, share: Gateway, bucket: Bucket, link: Link, size_bytes: int) -> None:
        self.share, self.bucket, self.link = share, bucket, link
        self.path: Path = share.mount_dir / "big"
        self.data = bytearray(random.Random(4).randbytes(size_bytes))
        self.path.write_bytes(self.data)
        self._settled()

    def write(self, offset: int, data: bytes) -> tuple[int, int]:
        """Write and upload; returns the bytes that went up and down."""
        before = self.link.traffic
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data
        return self._since(before.up_bytes, before.down_bytes)

    def truncate(self, size: int) -> tuple[int, int]:
        """Shorten, or lengthen by a hole, and upload; returns the bytes that went up and down."""
        before = self.link.traffic
        os.truncate(self.path, size)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        return self._since(before.up_bytes, before.down_bytes)

    def forget_everything(self) -> None:
        """A gateway that never saw the file: a new cache directory."""
        assert self.share.terminate() == 0
        shutil.rmtree(self.share.cache_dir)
        self.share.start()

    def read(self) -> int:
        """Read all of it from front to back; returns the bytes that came down."""
        before = self.link.traffic.down_bytes
        assert hashlib.sha256(self.path.read_bytes()).digest() == hashlib.sha256(self.data).digest()
        return self.link.traffic.down_bytes - before

    def _since(self, up_bytes: int, down_bytes: int) -> tuple[int, int]:
        self._settled()
        after = self.link.traffic
        self._compare()
        return after.up_bytes - up_bytes, after.down_bytes - down_bytes

    def _settled(self) -> None:
        self.share.drain()

    def _compare(self) -> None:
        wanted = hashlib.sha256(self.data).hexdigest()
        assert hashlib.sha256(self.bucket.body("big")).hexdigest() == wanted


def edit_and_count(edited: EditedFile) -> None:
    """Edits, an append, shorter, longer, with and without a cache; each within its bound. Prints what each cost."""
    piece = os.urandom(4096)
    size = len(edited.data)
    shorter = size // 4 * 3 + 5

    def cost(what: str, traffic: tuple[int, int], up_max: int, down_max: int = TALK_BYTES_MAX) -> None:
        up, down = traffic
        print(f"| {what} | {up:,} | {down:,} |")
        assert up <= up_max, what
        assert down <= down_max, what

    cost("4 KiB in the middle", edited.write(size // 2 + 5000, piece), EDIT_BYTES_MAX)
    cost("4 KiB appended", edited.write(size, piece), len(piece) + TALK_BYTES_MAX)
    cost("cut to three quarters and 5 bytes", edited.truncate(shorter), MIB + TALK_BYTES_MAX)
    cost("3 MiB of zeros appended", edited.truncate(shorter + 3 * MIB), 3 * MIB + TALK_BYTES_MAX)
    saved = edited.share.status()["upload"]
    assert saved["copied_parts"] >= 5
    assert saved["saved_bytes"] >= 4 * (shorter - MIB) - EDIT_BYTES_MAX
    edited.forget_everything()
    assert edited.read() > len(edited.data)
    cost("4 KiB in the middle, all of the file only read here", edited.write(size // 2 - 9000, piece), EDIT_BYTES_MAX)
    edited.forget_everything()
    middle = edited.write(size // 2 - 77, piece)
    cost("4 KiB in the middle, nothing of the file here", middle, EDIT_BYTES_MAX, EDIT_BYTES_MAX)
    cost("4 KiB appended, little of the file here", edited.write(len(edited.data), piece), len(piece) + TALK_BYTES_MAX)
    assert edited.share.verb("check", str(edited.share.mount_dir)).returncode == 0

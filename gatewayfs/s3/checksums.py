"""Checksums that travel with the bytes: computed before they leave, kept by S3, compared when they come back.

The signed SHA-256 already proves to the store that it got what we sent. A checksum goes further: S3 keeps it with the
object, so whoever reads the object later, we among them, can tell that these are the bytes that were written. AWS's own
library computes both at more than 10 GiB/s.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from awscrt import checksums

HEADER_PREFIX = "x-amz-checksum-"


@dataclass(frozen=True, slots=True)
class Checksum:
    """One algorithm. ``update(data, previous)`` goes on from ``previous``, 0 at first."""

    name: str
    update: Callable[[bytes | memoryview, int], int]
    length: int

    @property
    def header(self) -> str:
        return HEADER_PREFIX + self.name

    def encoded(self, value: int) -> str:
        """Return a value as S3 writes it."""
        return base64.b64encode(value.to_bytes(self.length, "big")).decode()


ALGORITHMS: Mapping[str, Checksum] = MappingProxyType(
    {
        "crc64nvme": Checksum("crc64nvme", checksums.crc64nvme, 8),
        "crc32c": Checksum("crc32c", checksums.crc32c, 4),
        "crc32": Checksum("crc32", checksums.crc32, 4),
    }
)


class Verifier:
    """Compares a body with the checksum its answer announced."""

    def __init__(self, algorithm: Checksum, expected: str) -> None:
        self._algorithm = algorithm
        self._expected = expected
        self._value = 0

    def update(self, piece: bytes | memoryview) -> None:
        self._value = self._algorithm.update(piece, self._value)

    @property
    def matches(self) -> bool:
        return self._algorithm.encoded(self._value) == self._expected


def verifier_for(headers: Mapping[str, str]) -> Verifier | None:
    """Return what checks a whole object's body, if the answer says its checksum.

    A checksum of checksums ("...-12", type COMPOSITE) of an object uploaded in parts says
    nothing about the bytes in a row.
    """
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for algorithm in ALGORITHMS.values():
        expected = headers.get(algorithm.header, "")
        if expected and "-" not in expected:
            return Verifier(algorithm, expected)
    return None

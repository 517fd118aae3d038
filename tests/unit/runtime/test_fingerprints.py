"""Fingerprints of cells and ranges, against xxh3-128 itself."""

from unittest import mock

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.runtime.fingerprints import Fingerprinter, coarser, combined, fingerprint_of

CELL = 10

contents = st.binary(max_size=120)


def cells(data: bytes, cell: int, pieces: int = 1000) -> list[bytes]:
    made = Fingerprinter(cell)
    for at in range(0, len(data), pieces):
        made.update(data[at : at + pieces])
    return made.cells()


@given(contents, st.integers(1, 30))
def test_a_cell_has_the_digest_of_its_bytes_however_they_come(data: bytes, pieces: int) -> None:
    expected = [xxhash.xxh3_128_digest(data[at : at + CELL]) for at in range(0, len(data), CELL)]
    assert cells(data, CELL, pieces) == expected


@given(contents, st.integers(1, 30), st.integers(0, 4))
def test_a_large_cell_is_made_of_two_of_half_its_size(data: bytes, pieces: int, doublings: int) -> None:
    with mock.patch("gatewayfs.runtime.fingerprints.LEAF_BYTES", CELL):
        smaller, larger = cells(data, CELL << doublings, pieces), cells(data, CELL << (doublings + 1), pieces)
    assert coarser(smaller) == larger


def test_what_is_not_known_stays_unknown() -> None:
    known = b"k" * 16
    assert coarser([known, b"", known, known, b""])[::2] == [b"", b""]
    assert coarser([known, b"", known, known, b""])[1] == xxhash.xxh3_128_digest(known + known)


@given(st.binary(min_size=1, max_size=120))
def test_a_range_has_the_digest_of_its_cells_digests(data: bytes) -> None:
    assert fingerprint_of(data, CELL) == combined(cells(data, CELL))
    assert fingerprint_of(data[:CELL], CELL) == fingerprint_of(data[:CELL]) == xxhash.xxh3_128_digest(data[:CELL])
    assert fingerprint_of(data) == xxhash.xxh3_128_digest(data)

"""Fingerprints of cells and ranges, against xxh3-128 itself."""

from unittest import mock

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.runtime.fingerprints import Fingerprinter, PassingCells, coarser, combined, fingerprint_of

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


@given(contents, st.data())
def test_of_a_range_that_passes_by_the_whole_cells_are_known(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    passing = PassingCells(start, len(data), CELL)
    for stop in (draw.draw(st.integers(start, end)), end):  # the first request for it was cut short
        passing.begin()
        pieces = draw.draw(st.integers(1, 30))
        for at in range(start, stop, pieces):
            passing.update(memoryview(data)[at : min(at + pieces, stop)])
    reached = draw.draw(st.integers(start, end))
    whole = dict(enumerate(cells(data, CELL)))
    inside = {n for n in whole if start <= n * CELL and min((n + 1) * CELL, len(data)) <= reached}
    assert passing.whole(reached) == {n: whole[n] for n in inside}


def test_of_a_range_that_was_cut_short_only_what_passed_is_known() -> None:
    passing = PassingCells(0, 4 * CELL, CELL)
    passing.update(bytes(4 * CELL))
    passing.begin()
    passing.update(bytes(CELL + 1))
    assert list(passing.whole(4 * CELL)) == [0]


def test_what_is_not_known_stays_unknown() -> None:
    known = b"k" * 16
    assert coarser([known, b"", known, known, b""])[::2] == [b"", b""]
    assert coarser([known, b"", known, known, b""])[1] == xxhash.xxh3_128_digest(known + known)


@given(st.binary(min_size=1, max_size=120))
def test_a_range_has_the_digest_of_its_cells_digests(data: bytes) -> None:
    assert fingerprint_of(data, CELL) == combined(cells(data, CELL))
    assert fingerprint_of(data[:CELL], CELL) == fingerprint_of(data[:CELL]) == xxhash.xxh3_128_digest(data[:CELL])
    assert fingerprint_of(data) == xxhash.xxh3_128_digest(data)

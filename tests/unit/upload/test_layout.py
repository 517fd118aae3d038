"""The layout of parts: it covers the file, keeps S3's limits, sends what differs, and little else."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewayfs.meta.schema import Fingerprints
from gatewayfs.runtime.fingerprints import CELLS_MAX, Fingerprinter, cell_bytes_for
from gatewayfs.s3.store import COPY_BYTES_MAX, OBJECT_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX
from gatewayfs.upload.layout import (
    Limits,
    digests_of,
    lay_out,
    limits_for,
    same_cells,
)

few = settings(deadline=None, max_examples=40)  # lists of up to 65,536 cells

MIB = 1 << 20
GIB = 1 << 30
LINK_BYTES_MAX = 5_500_000
"""What one small edit may cost on the wire."""


def aws(size):
    return limits_for(cell_bytes_for(size, MIB), PART_BYTES_MIN, 8 * MIB)


def cells_in(size, limits):
    return -(-size // limits.cell)


def sent_bytes(ranges):
    return sum(each.length for each in ranges if not each.copied)


def check(ranges, size, copyable, limits):
    position = 0
    for each in ranges:
        assert each.offset == position
        assert each.length > 0
        position += each.length
        cells = range(each.offset // limits.cell, -(-(each.offset + each.length) // limits.cell))
        assert not each.copied or all(copyable[cell] for cell in cells), "only equal bytes are copied"
        assert each.offset % limits.cell == 0
        assert each.length <= COPY_BYTES_MAX
    assert position == size
    assert len(ranges) <= PARTS_MAX
    assert all(each.length >= min(limits.part_min, PART_BYTES_MIN) for each in ranges[:-1])


@st.composite
def files(draw):
    """A size, and which cells are as they were."""
    small = st.integers(1, 200 * MIB)
    size = draw(st.one_of(small, st.integers(1, 100 * GIB), st.integers(1, OBJECT_BYTES_MAX)))
    limits = aws(size)
    count = cells_in(size, limits)
    copyable = [draw(st.booleans())] * count
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, count - 1))
        end = min(count, start + draw(st.integers(1, 40)))
        copyable[start:end] = [draw(st.booleans())] * (end - start)
    return size, copyable


@few
@given(files())
def test_parts_cover_the_file_within_the_limits(case):
    size, copyable = case
    limits = aws(size)
    check(lay_out(size, copyable, limits), size, copyable, limits)


@few
@given(st.integers(1, OBJECT_BYTES_MAX))
@example(OBJECT_BYTES_MAX)
def test_the_worst_pattern_still_fits_into_ten_thousand_parts(size):
    """Alternately as many equal cells as make a part, and one that differs."""
    limits = aws(size)
    step = limits.part_min // limits.cell
    copyable = [number % (2 * step) >= step for number in range(cells_in(size, limits))]
    check(lay_out(size, copyable, limits), size, copyable, limits)


@few
@given(st.integers(6 * MIB, 60 * GIB), st.data())
def test_a_small_edit_costs_the_smallest_part(size, data):
    limits = aws(size)
    count = cells_in(size, limits)
    edited = data.draw(st.integers(0, count - 1))
    copyable = [number != edited for number in range(count)]
    ranges = lay_out(size, copyable, limits)
    assert sent_bytes(ranges) <= PART_BYTES_MIN + MIB - 1 <= LINK_BYTES_MAX + MIB
    if (edited + 6) * MIB <= size:
        assert sent_bytes(ranges) == PART_BYTES_MIN


@few
@given(st.integers(6 * MIB, 60 * GIB), st.integers(1, 100 * MIB))
def test_an_append_costs_its_bytes_and_less_than_a_cell(size, appended):
    limits = aws(size + appended)
    whole = size // limits.cell
    copyable = [number < whole for number in range(cells_in(size + appended, limits))]
    sent = sent_bytes(lay_out(size + appended, copyable, limits))
    assert sent == appended + size % limits.cell


@few
@given(st.integers(6 * MIB, 60 * GIB), st.data())
def test_a_truncation_costs_less_than_a_cell(size, data):
    shorter = data.draw(st.integers(5 * MIB, size - 1))
    limits = aws(shorter)
    whole = shorter // limits.cell
    copyable = [number < whole for number in range(cells_in(shorter, limits))]
    assert sent_bytes(lay_out(shorter, copyable, limits)) == shorter % limits.cell


@given(st.lists(st.booleans(), min_size=1, max_size=14), st.integers(1, 4), st.integers(1, 10))
def test_no_layout_sends_much_less(copyable, part_min, last):
    """Against every layout there is: what the one pass from left to right sends too much stays below one part."""
    limits = Limits(10, part_min * 10, part_min * 20, 1000)
    size = (len(copyable) - 1) * 10 + last
    ranges = lay_out(size, copyable, limits)
    check(ranges, size, copyable, limits)
    assert sent_bytes(ranges) < cheapest(size, copyable, 10, part_min) + part_min * 10


def cheapest(size, copyable, cell, part_min):
    """The fewest bytes that must be sent, by trying all: dynamic programming over where a part ends."""
    count = len(copyable)
    best = [0] + [size + 1] * count
    for end in range(1, count + 1):
        for start in range(end):
            if end - start < part_min and end < count:
                continue
            length = min(end * cell, size) - start * cell
            cost = 0 if all(copyable[start:end]) else length
            best[end] = min(best[end], best[start] + cost)
    return best[count]


def test_a_whole_upload_has_parts_of_one_size_wherever_it_ends():
    limits = aws(100 * MIB)
    for size in (8 * MIB + 1, 12 * MIB, 100 * MIB - 3):
        ranges = lay_out(size, [False] * cells_in(size, limits), limits)
        assert [each.length for each in ranges[:-1]] == [8 * MIB] * (len(ranges) - 1)


def test_a_rest_too_short_for_a_part_joins_the_one_before():
    limits = aws(100 * MIB)
    copyable = [not 20 <= number < 29 for number in range(100)]
    ranges = lay_out(100 * MIB, copyable, limits)
    assert [(each.length // MIB, each.copied) for each in ranges] == [(20, True), (9, False), (71, True)]


@pytest.mark.parametrize(("size", "cell"), [(0, MIB), (64 * GIB, MIB), (64 * GIB + 1, 2 * MIB), (5 << 40, 128 * MIB)])
def test_cells_grow_with_the_file(size, cell):
    assert cell_bytes_for(size, MIB) == cell
    assert size <= cell * CELLS_MAX


def fingerprints(data, cell):
    made = Fingerprinter(cell)
    made.update(data)
    return made.cells()


def record(data, cell):
    return Fingerprints("key", "etag", len(data), cell, b"".join(fingerprints(data, cell)))


contents = st.binary(max_size=200)


@given(contents, contents, st.sampled_from([16, 32, 64]))
def test_equal_cells_have_equal_bytes_in_the_same_place(before, after, cell):
    flags = same_cells(len(after), cell, fingerprints(after, cell), record(before, cell))
    for number, same in enumerate(flags):
        start, end = number * cell, min((number + 1) * cell, len(after))
        theirs = before[start : min((number + 1) * cell, len(before))]
        assert same == (after[start:end] == theirs), number


def test_without_a_base_nothing_is_known_to_be_equal():
    assert same_cells(30, 10, [b"a", b"b", b"c"], None) == [False] * 3


def test_what_nobody_read_is_never_equal():
    base = Fingerprints("key", "etag", 30, 10, bytes(48))
    assert same_cells(30, 10, [b"", bytes(16), b"x" * 16], base) == [False] * 3


@given(st.binary(min_size=1, max_size=300), st.integers(0, 299), st.sampled_from([(1, 4), (4, 1), (2, 2), (8, 1)]))
def test_records_of_smaller_or_larger_cells_are_compared(data, at, cells):
    """A file that outgrew its cells, or shrank, is not sent whole for that."""
    from unittest import mock

    ours, theirs = cells
    at %= len(data)
    edited = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    with mock.patch("gatewayfs.runtime.fingerprints.LEAF_BYTES", 1):
        flags = same_cells(len(data), ours, fingerprints(edited, ours), record(data, theirs))
    coarse = max(cells)
    assert flags == [number * ours // coarse != at // coarse for number in range(len(flags))]


@given(contents, contents, st.sampled_from([16, 32]), st.data())
def test_copied_cells_keep_the_fingerprints_they_had(before, after, cell, data):
    """Cells that are not here are the base's: the record afterwards says of them what the base's said, or nothing."""
    here = fingerprints(after, cell)
    hidden = [data.draw(st.booleans()) and cut(after, n, cell) == cut(before, n, cell) for n in range(len(here))]
    cells = [b"" if hide else digest for hide, digest in zip(hidden, here, strict=True)]
    digests = digests_of(len(after), cell, cells, record(before, cell))
    found = Fingerprints("key", "etag", len(after), cell, digests).cells
    assert found == here


def cut(data, number, cell):
    return data[number * cell : (number + 1) * cell]

"""The interval set against a plain set of byte numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.cache.extents import Extents

SPAN = 40

ranges = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "truncate"]), ranges), max_size=30)


@given(steps, ranges)
def test_extents_are_the_set_of_their_bytes(operations, question):
    extents, model = Extents(), set()
    for name, (start, end) in operations:
        if name == "add":
            extents.add(start, end)
            model |= set(range(start, end))
        elif name == "remove":
            extents.remove(start, end)
            model -= set(range(start, end))
        else:
            extents.truncate(start)
            model = {byte for byte in model if byte < start}
        extents.check()
    start, end = question
    assert {byte for low, high in extents for byte in range(low, high)} == model
    assert extents.total_bytes == len(model)
    assert extents.covers(start, end) == (set(range(start, end)) <= model)
    missing = {byte for low, high in extents.missing(start, end) for byte in range(low, high)}
    assert missing == set(range(start, end)) - model
    assert list(Extents(extents.flat)) == list(extents)


def test_a_file_written_front_to_back_is_one_extent():
    extents = Extents()
    for start in range(0, 1000, 10):
        extents.add(start, start + 10)
    assert extents.flat == (0, 1000)


@pytest.mark.parametrize("flat", [(0, 10, 10, 20), (5, 5), (8, 4), (10, 20, 0, 5)])
def test_check_names_a_broken_set(flat):
    with pytest.raises(ValueError, match="out of order or touching"):
        Extents(flat).check()

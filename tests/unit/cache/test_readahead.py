"""The read-ahead policy against what a reader of each kind needs and may cost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.cache.extents import Extents
from gatewayfs.cache.readahead import (
    BLOCK_BYTES,
    FETCH_BYTES,
    IDLE_READS_MAX,
    REACH_BYTES,
    REQUEST_BYTES_MAX,
    SEQUENTIAL_BYTES,
    WINDOW_BYTES_MIN,
    WINDOW_FACTOR,
    ReadStreams,
)

MIB = 1 << 20
WINDOW = 32 * MIB
KERNEL = 128 << 10
"""What the kernel asks for at a time."""


class File:
    """A file being read: what is here, what was asked for, and the rules that hold for every plan."""

    def __init__(self, size, window=WINDOW):
        self.size = size
        self.window = window
        self.streams = ReadStreams()
        self.here = Extents()
        self.demanded = 0
        self.ahead = Extents()
        self.given_up = []
        self.heads = []

    def read(self, start, length):
        """One read; returns whether its bytes were here already."""
        end = min(start + length, self.size)
        absent = bool(self.here.missing(start, end))
        plan = self.streams.follow(start, end, self.size, self.window, absent=absent)
        assert plan.demand[0] <= start
        assert end <= plan.demand[1] <= self.size
        assert plan.demand[1] - plan.demand[0] <= max(REQUEST_BYTES_MAX, end - start) + 2 * BLOCK_BYTES
        if absent:
            self.demanded += 1
            self.here.add(*plan.demand)
        for low, high in plan.ahead:
            assert start - REACH_BYTES <= low < high <= self.size
            assert high - low <= REQUEST_BYTES_MAX
            assert high <= max(end, start + REACH_BYTES) + self.window, "further ahead than the window"
            self.here.add(low, high)
            self.ahead.add(low, high)
        self.given_up += plan.given_up
        return not absent


def reordered(starts, reach, rng):
    """The same reads, each at most ``reach`` places from where it belongs."""
    keyed = [(index + rng.uniform(0, reach), start) for index, start in enumerate(starts)]
    return [start for _, start in sorted(keyed)]


@given(
    st.sampled_from([4096, 65536, KERNEL, MIB]),
    st.integers(0, 3 * MIB),
    st.integers(0, 8),
    st.integers(0, 1 << 32),
)
@settings(max_examples=40)
def test_a_reader_in_order_finds_its_bytes_asked_for_whatever_order_its_reads_arrive_in(length, begin, reach, seed):
    rng = random.Random(seed)
    size = begin + min(24 * MIB, 1000 * length)
    file = File(size)
    starts = list(range(begin, size, length))
    reach = min(reach, REACH_BYTES // (2 * length))
    for start in reordered(starts, reach, rng):
        file.read(start, length)
    assert not file.here.missing(begin, size)
    assert file.demanded <= 2 + reach + SEQUENTIAL_BYTES // length


def test_the_window_grows_with_what_was_read_up_to_its_maximum_and_no_further():
    file = File(1 << 40)
    ahead = []
    for start in range(0, 64 * MIB, KERNEL):
        file.read(start, KERNEL)
        end = start + KERNEL
        reach = file.here.missing(0, 1 << 40)[0][0] - end
        assert reach <= max(WINDOW_FACTOR * end, WINDOW_BYTES_MIN)
        ahead.append(reach)
    assert ahead[0] < FETCH_BYTES, "one read is no stream"
    assert max(ahead) <= WINDOW
    assert min(ahead[len(ahead) // 2 :]) >= WINDOW - REQUEST_BYTES_MAX, "the line would run dry"


@given(st.lists(st.integers(0, (1 << 40) // 4096 - 1), min_size=1, max_size=300))
@settings(max_examples=40)
def test_random_reads_bring_their_blocks_and_nothing_ahead(pages):
    file = File(1 << 40)
    for page in pages:
        file.read(page * 4096, 4096)
    # Neighbours by chance may look like a stream; at most one window of them, of the smallest size.
    assert file.ahead.total_bytes <= WINDOW_BYTES_MIN * (len(pages) // 32)
    assert file.here.total_bytes <= len(pages) * BLOCK_BYTES + file.ahead.total_bytes + FETCH_BYTES


@pytest.mark.parametrize("stride", [3 * KERNEL, MIB, 5 * MIB])
def test_strides_are_not_taken_for_reading_in_order(stride):
    file = File(1 << 40)
    for start in range(stride, 100 * stride, stride):
        file.read(start, KERNEL)
    assert not file.ahead


@given(st.integers(2, 8), st.integers(0, 1 << 32))
@settings(max_examples=20)
def test_several_readers_of_one_file_each_have_their_window(readers, seed):
    rng = random.Random(seed)
    size = 1 << 40
    file = File(size)
    heads = [number * (size >> 4) + rng.randrange(MIB) for number in range(readers)]
    begins = list(heads)
    for _ in range(200):
        order = list(range(readers))
        rng.shuffle(order)
        for number in order:
            file.read(heads[number], KERNEL)
            heads[number] += KERNEL
    assert not file.given_up
    for begin, head in zip(begins, heads, strict=True):
        assert not file.here.missing(begin, head + 16 * MIB), "it would have to wait"


def test_a_reader_who_jumped_away_is_given_up_with_what_was_asked_for_it():
    file = File(1 << 40)
    for start in range(0, 16 * MIB, KERNEL):
        file.read(start, KERNEL)
    asked = file.here.missing(0, 1 << 40)[0][0]
    for number in range(IDLE_READS_MAX):
        assert not file.given_up
        file.read((1 << 39) + number * KERNEL, KERNEL)
    assert file.given_up == [(16 * MIB, asked)]


def test_more_streams_than_are_remembered_give_up_the_longest_idle():
    file = File(1 << 40)
    for number in range(50):
        begin = number * (1 << 30)
        for start in range(begin, begin + MIB, KERNEL):
            file.read(start, KERNEL)
    assert len(file.given_up) >= 40


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 64 * MIB), st.integers(1, 4 * MIB)), max_size=60))
def test_the_window_is_never_exceeded_whatever_is_read(window_mib, reads):
    file = File(64 * MIB + 17, window=window_mib * MIB)
    for start, length in reads:
        file.read(start, length)
    if not window_mib:
        assert not file.ahead


def test_a_file_of_known_size_is_asked_for_to_its_last_byte():
    size = 5 * MIB + 3
    file = File(size)
    for start in range(0, size, KERNEL):
        file.read(start, KERNEL)
    assert not file.here.missing(0, size)


def test_bytes_that_were_here_before_are_followed_too():
    """A file of which the beginning is cached: its reader is known to read in order when the cached part ends."""
    file = File(64 * MIB)
    file.here.add(0, 8 * MIB)
    for start in range(0, 8 * MIB, KERNEL):
        file.read(start, KERNEL)
    assert file.demanded == 0
    assert not file.here.missing(8 * MIB, 32 * MIB)


def test_going_backwards_costs_at_most_what_was_read():
    file = File(1 << 30)
    for start in range((1 << 29), (1 << 29) - 64 * MIB, -KERNEL):
        file.read(start, KERNEL)
    assert file.here.total_bytes <= 64 * MIB + 3 * REACH_BYTES

"""Who goes first: the books balance, what must stay stays, and a scan does not flush the working set."""

import itertools
import random
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.cache import eviction
from gatewayfs.cache.eviction import Eviction, Hold

keys = st.integers(1, 12)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.integers(0, 50), st.sampled_from(Hold), st.booleans()),
        st.tuples(st.sampled_from(["touch", "remove", "forget", "spare", "evict"]), keys),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_the_books_balance_and_only_what_may_go_is_named(program):
    made = Eviction()
    model: dict[int, tuple[int, Hold]] = {}
    for name, key, *rest in program:
        if name == "put":
            size, hold, cold = rest
            made.put(key, size, hold, cold=cold)
            model[key] = (size, hold)
            if not size:
                del model[key]
        elif name == "touch":
            assert made.touch(key) == (key in model)
        elif name in ("remove", "forget"):
            made.remove(key, remember=name == "remove")
            model.pop(key, None)
        elif name == "spare":
            made.spare(key)
        else:
            victim = made.victim()
            free = {key for key, (_, hold) in model.items() if hold is Hold.FREE}
            assert (victim in free) if free else victim is None
            if victim is not None:
                made.remove(victim, remember=True)
                del model[victim]
        made.check()
        assert len(made) == len(model)
        assert made.total_bytes == sum(size for size, _ in model.values())
        for hold in Hold:
            assert made.held_bytes(hold) == sum(size for size, held in model.values() if held is hold)
        for key in range(1, 13):
            assert made.size(key) == model.get(key, (0, Hold.FREE))[0]


def test_everything_that_may_go_goes_once_and_in_a_bounded_number_of_steps():
    made = Eviction()
    for key in range(1, 1001):
        made.put(key, key)
        for _ in range(key % 5):
            made.touch(key)
    gone = []
    while (victim := made.victim()) is not None:
        gone.append(victim)
        made.remove(victim)
    assert sorted(gone) == list(range(1, 1001))


class Simulated:
    """A cache of ``capacity`` entries of one size, read through."""

    def __init__(self, capacity):
        self.made, self.capacity, self.hits, self.reads = Eviction(), capacity, 0, 0

    def read(self, key):
        self.reads += 1
        if self.made.touch(key):
            self.hits += 1
            return
        while len(self.made) >= self.capacity:
            self.made.remove(self.made.victim(), remember=True)
        self.made.put(key, 1)


def test_one_pass_over_a_big_tree_leaves_the_working_set_alone():
    cache = Simulated(1000)
    rng = random.Random(4)
    working = list(range(1, 801))
    for _ in range(5):
        rng.shuffle(working)
        for key in working:
            cache.read(key)
    for key in range(10_000, 30_000):
        cache.read(key)
    cache.hits = cache.reads = 0
    for key in working:
        cache.read(key)
    assert cache.hits / cache.reads > 0.95, "the scan flushed the working set"


class LeastRecentlyUsed:
    """What the policy is compared with."""

    def __init__(self, capacity):
        self.order, self.capacity, self.hits = OrderedDict(), capacity, 0

    def read(self, key):
        if key in self.order:
            self.hits += 1
            self.order.move_to_end(key)
            return
        if len(self.order) >= self.capacity:
            self.order.popitem(last=False)
        self.order[key] = None


def misses(cache) -> int:
    """Of 50,000 skewed reads with a scan of 300 after every 500 of them."""
    rng = random.Random(7)
    scanned = itertools.count(1_000_000)
    missed = 0
    for turn in range(110):
        before = cache.hits
        for _ in range(500):
            cache.read(1 + int(rng.paretovariate(0.9)) % 5000)
        if turn >= 10:
            missed += 500 - (cache.hits - before)
        for _ in range(300):
            cache.read(next(scanned))
    return missed


def test_skewed_reads_with_scans_between_them_miss_far_less_than_with_lru():
    assert misses(Simulated(1000)) < 0.6 * misses(LeastRecentlyUsed(1000))


def test_what_comes_back_soon_goes_straight_to_the_main_queue():
    made = Eviction()
    for key in range(1, 11):
        made.put(key, 10)
    first = made.victim()
    assert first == 1
    made.remove(first, remember=True)
    made.put(1, 10)
    gone = []
    while (victim := made.victim()) is not None:
        gone.append(victim)
        made.remove(victim)
    assert gone[-1] == 1


def test_bytes_nobody_asked_for_yet_go_first_until_they_are_used():
    made = Eviction()
    for key in range(1, 5):
        made.put(key, 10)
    made.put(9, 10, cold=True)
    assert made.victim() == 9
    made.touch(9)
    assert made.victim() == 1


def test_what_was_read_ahead_and_used_once_is_a_scan_and_what_is_used_again_is_not():
    made = Eviction()
    for key in range(1, 11):
        made.put(key, 10, cold=True)
    for key in range(1, 11):
        made.touch(key)
    made.touch(7)
    made.check()
    gone = []
    while len(made) > 1:
        gone.append(made.victim())
        made.remove(gone[-1])
    assert gone == [1, 2, 3, 4, 5, 6, 8, 9, 10], "in the order they were used; the seventh belongs to the working set"


def test_a_dirty_entry_that_was_used_meanwhile_joins_the_working_set_when_it_is_clean():
    made = Eviction()
    made.put(1, 10, Hold.DIRTY)
    made.touch(1)
    made.put(2, 10)
    made.put(1, 10, Hold.FREE)
    assert made.victim() == 2


def test_names_of_what_went_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eviction, "GHOSTS_MAX", 100)
    made = Eviction()
    for key in range(1, 10_000):
        made.put(key, 1)
        made.remove(key, remember=True)
        assert len(made._ghosts) <= 100


def test_slots_are_used_again():
    made = Eviction()
    for _ in range(20):
        for key in range(1, 101):
            made.put(key, 1)
        for key in range(1, 101):
            made.remove(key)
    assert len(made._keys) == 101

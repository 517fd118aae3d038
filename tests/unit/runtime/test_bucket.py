"""The token bucket against a crowd of arbitrary requests: the mean over any ten seconds."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewayfs.runtime.bucket import BURST_S, DEBT_S, Booking, TokenBucket

WINDOW_S = 10.0
RUN_S = 40.0
RATES = st.sampled_from([6_400, 64_000, 1_250_000, 5_000_000, 125_000_000])


class Crowd:
    """Requesters that always want to pass: each books, comes back when told (and late by its own habit), and goes."""

    def __init__(self, rate: float, sizes_s: list[float], late_s: list[float]) -> None:
        self.bucket = TokenBucket(0.0)
        self.bucket.set_rate(rate, 0.0)
        self.rate = rate
        self.sizes_s = sizes_s
        self.late_s = late_s
        self.passed: list[tuple[float, int]] = []

    def run(self, takes: list[tuple[float, int]] = []) -> None:  # noqa: B006 - never changed
        """``takes``: what passes without waiting, at which times."""
        due: list[tuple[float, int, Booking | int]] = []
        for number in range(len(self.sizes_s)):
            heapq.heappush(due, (0.0, number, self._book(number, 0.0)))
        for index, (at_s, length_bytes) in enumerate(takes):
            heapq.heappush(due, (at_s, len(self.sizes_s) + index, length_bytes))
        while due and due[0][0] < RUN_S:
            now_s, number, what = heapq.heappop(due)
            if isinstance(what, int):
                self.bucket.take(what, now_s)
                self.passed.append((now_s, what))
                continue
            wait_s = self.bucket.wait_s(what, now_s)
            assert wait_s is not None
            if wait_s:
                heapq.heappush(due, (now_s + wait_s + self.late_s[number], number, what))
            else:
                self.passed.append((now_s, what.length_bytes))
                heapq.heappush(due, (now_s, number, self._book(number, now_s)))

    def _book(self, number: int, now_s: float) -> Booking:
        return self.bucket.book(max(1, int(self.sizes_s[number] * self.rate)), now_s)

    def means(self) -> Iterator[float]:
        """Over every ten seconds that begin or end with a passage, as a part of the rate."""
        times = [at_s for at_s, _ in self.passed]
        sums = [0, *accumulate(length for _, length in self.passed)]
        for start in {*times, *(at_s - WINDOW_S for at_s in times)}:
            if 0 <= start <= times[-1] - WINDOW_S:
                inside = sums[bisect_left(times, start + WINDOW_S)] - sums[bisect_left(times, start)]
                yield inside / WINDOW_S / self.rate


@settings(deadline=None, max_examples=60)
@given(
    RATES,
    st.lists(st.tuples(st.floats(0.02, BURST_S), st.floats(0.0, 0.1)), min_size=1, max_size=8),
)
@example(5_000_000, [(BURST_S, 0.15)] * 8)
def test_the_mean_over_any_ten_seconds_is_within_5_percent_for_any_sizes_and_late_wakers(
    rate: int, requesters: list[tuple[float, float]]
) -> None:
    crowd = Crowd(rate, [size for size, _ in requesters], [late for _, late in requesters])
    crowd.run()
    means = list(crowd.means())
    assert means
    assert 0.95 <= min(means) <= max(means) <= 1.05


def test_an_idle_limit_saves_up_no_more_than_its_burst() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(1000, 0.0)
    passed = 0
    while bucket.wait_s(bucket.book(10, 3600.0), 3600.0) == 0.0:
        passed += 10
    assert passed == pytest.approx(1000 * BURST_S)


def test_a_later_booking_and_a_later_take_never_delay_an_earlier_one() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(1000, 0.0)
    first = bucket.book(500, 0.0)
    bucket.book(5000, 0.0)
    bucket.take(5000, 0.0)
    assert bucket.wait_s(first, 0.0) == 0.5


def test_what_was_taken_is_paid_for_by_the_next_booking() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(1000, 0.0)
    bucket.take(700, 0.0)
    assert bucket.wait_s(bucket.book(300, 0.0), 0.0) == 1.0


def test_what_does_not_wait_is_counted_in_the_mean() -> None:
    """A fifth of the rate in answers without a body: bodies get the other four."""
    crowd = Crowd(100_000, [0.01] * 3, [0.0] * 3)
    crowd.run([(tick / 10, 2000) for tick in range(int(RUN_S * 10))])
    means = list(crowd.means())
    assert 0.95 <= min(means) <= max(means) <= 1.05
    taken = sum(length for _, length in crowd.passed if length == 2000)
    assert taken == 100_000 * RUN_S / 5


def test_however_much_is_taken_bodies_get_half_of_the_rate() -> None:
    crowd = Crowd(100_000, [0.01], [0.0])
    crowd.run([(tick / 100, 50_000) for tick in range(int(RUN_S * 100))])
    bodies = sum(length for _, length in crowd.passed if length == 1000)
    assert bodies == pytest.approx(100_000 * (RUN_S / 2 - DEBT_S), rel=0.02)


def test_what_is_given_back_passes_with_others() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(1000, 0.0)
    unused = bucket.book(1000, 0.0)
    bucket.give_back(unused.line, 800, 0.0)
    assert bucket.wait_s(bucket.book(100, 0.0), 0.0) == pytest.approx(0.3)


def test_nothing_given_back_lets_more_than_a_burst_pass_at_once() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(1000, 0.0)
    unused = bucket.book(100_000, 0.0)
    bucket.give_back(unused.line, 100_000, 100.0)
    assert bucket.wait_s(bucket.book(1000, 100.0), 100.0) == pytest.approx(1 - BURST_S)


def test_a_new_rate_begins_a_new_line_without_debts_or_savings() -> None:
    bucket = TokenBucket(0.0)
    bucket.set_rate(100_000_000, 0.0)
    waiting = bucket.book(100_000_000, 0.0)
    bucket.set_rate(1000, 0.5)
    assert bucket.wait_s(waiting, 0.5) is None
    assert bucket.wait_s(bucket.book(1000, 0.5), 0.5) == 1.0
    bucket.give_back(waiting.line, waiting.length_bytes, 0.5)
    assert bucket.wait_s(bucket.book(0, 0.5), 0.5) == 1.0


def test_without_a_rate_nothing_waits() -> None:
    bucket = TokenBucket(0.0)
    assert bucket.wait_s(bucket.book(1 << 40, 0.0), 0.0) == 0.0
    bucket.take(1 << 40, 0.0)
    bucket.set_rate(1000, 1.0)
    assert bucket.wait_s(bucket.book(0, 1.0), 1.0) == 0.0

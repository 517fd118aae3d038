"""Valves and passages on a clock that does as it is told: who waits, how long, and what a change does."""

from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.runtime.bucket import BURST_S
from gatewayfs.runtime.throttle import GRAIN_BYTES_MAX, HEAD_BYTES, LOOK_S, PIECE_BYTES_MAX, Passage, Throttle

RATE = 1_000_000


class ThreadTime:
    """A clock for code that sleeps in a thread: sleeping moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []
        self.at: dict[float, Callable[[], object]] = {}

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        for when in [when for when in self.at if when <= self.now_s]:
            self.at.pop(when)()


def throttle_in_threads() -> tuple[Throttle, ThreadTime]:
    time = ThreadTime()
    return Throttle(32, time, time.sleep), time


def throttle_in_loop(connections: int = 32) -> Throttle:
    """For waiting on the event loop, by trio's (mock) clock."""
    return Throttle(connections, trio.current_time)


def send(passage: Passage, length_bytes: int) -> None:
    while length_bytes:
        length_bytes -= passage.may_send(length_bytes)


@settings(deadline=None, max_examples=40)
@given(st.integers(6_400, 10_000_000), st.lists(st.integers(GRAIN_BYTES_MAX + 1, 8 << 20), min_size=1, max_size=3))
def test_paced_bodies_take_the_time_their_bytes_are_worth(rate: int, lengths: list[int]) -> None:
    throttle, time = throttle_in_threads()
    throttle.upload.set_limit(rate)
    for length in lengths:
        send(throttle.passage(sends_bytes=length), length)
    total = sum(lengths)
    assert throttle.upload.total_bytes == total
    # A piece is at most a 20th of a second, or 256 bytes; a body's last one may be paid for and not used up.
    slack_s = (BURST_S + 0.05 * (1 + len(lengths))) + 512 / rate
    assert total / rate - slack_s <= time.now_s <= total / rate + slack_s


def test_an_answer_is_read_in_pieces_and_waits_as_long_as_it_is_large() -> None:
    throttle, time = throttle_in_threads()
    throttle.download.set_limit(RATE)
    passage = throttle.passage(receives_bytes=4_000_000)
    got = 0
    while got < 4_000_000:
        room = passage.may_receive(256 * 1024)
        assert 1 <= room <= RATE // 20
        came = min(room, 1400)  # what comes is often less than what was asked for, and costs no more
        passage.received(came)
        got += came
    assert time.now_s == pytest.approx(4.0, abs=0.3)


def test_pieces_are_bounded_so_that_a_new_limit_counts_at_once() -> None:
    throttle, time = throttle_in_threads()
    throttle.upload.set_limit(6_400)
    passage = throttle.passage(sends_bytes=100 << 20)
    time.at[10.0] = lambda: throttle.upload.set_limit(50_000_000)
    send(passage, 100 << 20)
    assert max(time.slept_s) <= LOOK_S
    assert time.now_s == pytest.approx(10 + (100 << 20) / 50_000_000, rel=0.05)


def test_a_body_under_way_without_a_limit_heeds_one_that_comes() -> None:
    throttle, time = throttle_in_threads()
    passage = throttle.passage(sends_bytes=100 << 20)
    assert passage.may_send(1 << 20) == 1 << 20
    throttle.upload.set_limit(50_000_000)
    assert passage.may_send(1 << 20) == PIECE_BYTES_MAX
    throttle.upload.set_limit(None)
    assert passage.may_send(1 << 20) == 1 << 20
    assert time.now_s < 0.1


def test_who_gave_up_waits_no_longer_than_a_look() -> None:
    throttle, time = throttle_in_threads()
    throttle.upload.set_limit(6_400)
    throttle.upload.note(1_000_000, 1_000_000)
    wanted = [True]
    time.at[0.5] = wanted.clear
    throttle.passage(lambda: not wanted, sends_bytes=100 << 20).may_send(1)
    assert time.now_s <= 0.5 + LOOK_S


def test_the_time_held_up_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle, time = throttle_in_threads()
    monkeypatch.setattr("gatewayfs.runtime.throttle.thread_clock", time)
    throttle.upload.set_limit(RATE)
    passage = throttle.passage(sends_bytes=5_000_000)
    send(passage, 5_000_000)
    assert passage.waited_s == pytest.approx(5.0, abs=0.3)


def test_what_has_no_body_never_waits_and_is_counted() -> None:
    throttle, time = throttle_in_threads()
    throttle.upload.set_limit(6_400)
    throttle.download.set_limit(6_400)
    for _ in range(100):
        passage = throttle.passage()
        assert passage.may_send(500) == 500
        assert passage.may_receive(256 * 1024) == 256 * 1024
        passage.received(300)
    assert time.slept_s == []
    assert (throttle.upload.total_bytes, throttle.download.total_bytes) == (50_000, 30_000)


def test_an_upload_never_waits_for_the_download_limit_nor_the_other_way_round() -> None:
    throttle, time = throttle_in_threads()
    throttle.download.set_limit(6_400)
    throttle.download.note(1_000_000, 1_000_000)
    upload = throttle.passage(sends_bytes=10 << 20)
    send(upload, 10 << 20)
    assert upload.may_receive(1000) == 1000
    assert time.slept_s == []


def test_the_current_rate_is_the_mean_of_the_last_ten_seconds() -> None:
    throttle, time = throttle_in_threads()
    for _ in range(30):
        time.now_s += 1
        throttle.upload.note(500, 0)
    assert throttle.upload.rate_bytes_per_s() == 500
    time.now_s += 5
    assert throttle.upload.rate_bytes_per_s() == pytest.approx(300, abs=50)
    time.now_s += 20
    assert throttle.upload.rate_bytes_per_s() == 0


# --------------------------------------------------------------------------- beginning, on the event loop


async def upload(throttle: Throttle, length_bytes: int, done_s: list[float] | None = None) -> None:
    passage = throttle.passage(sends_bytes=length_bytes)
    try:
        await passage.begin()
        send(passage, length_bytes + 700)
    finally:
        passage.end()
    if done_s is not None:
        done_s.append(trio.current_time())


async def test_a_thousand_small_files_keep_to_the_limit_with_their_heads(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(RATE)
    began = trio.current_time()

    async def worker() -> None:
        for _ in range(100):
            await upload(throttle, 10_000)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(worker)
    took = trio.current_time() - began
    assert throttle.upload.total_bytes == 1600 * 10_700
    assert throttle.upload.total_bytes / took == pytest.approx(RATE, rel=0.03)


async def test_empty_files_keep_to_the_limit_too(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(RATE)
    began = trio.current_time()
    for _ in range(5_000):
        await upload(throttle, 0)
    assert throttle.upload.total_bytes / (trio.current_time() - began) == pytest.approx(RATE, rel=0.03)


async def test_without_a_limit_beginning_is_no_checkpoint() -> None:
    with trio.testing.assert_no_checkpoints():
        await upload(throttle_in_loop(), 100_000_000)


async def test_small_bodies_begin_in_the_order_they_came(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(RATE)
    order = []

    async def one(number: int) -> None:
        await upload(throttle, 100_000)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(30))


async def test_a_cancelled_wait_books_nothing(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(RATE)
    await upload(throttle, 190_000)
    for _ in range(100):
        with trio.move_on_after(0.001):
            await upload(throttle, 150_000)
    began = trio.current_time()
    await upload(throttle, 150_000)
    assert trio.current_time() - began < 0.3


async def test_what_was_paid_for_and_not_used_is_given_back(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(RATE)
    began = trio.current_time()
    for _ in range(1000):
        passage = throttle.passage(sends_bytes=150_000)
        await passage.begin()
        passage.end()  # nothing was sent: the connection broke
    assert trio.current_time() - began == pytest.approx(
        (150_000 + HEAD_BYTES) / RATE
    )  # the first; nothing was saved up


async def test_small_bodies_pass_long_ones_that_hold_all_slots(autojump_clock: object) -> None:
    throttle = throttle_in_loop(32)
    throttle.upload.set_limit(64_000)
    begun = []

    async def hold(length_bytes: int) -> None:
        await throttle.passage(sends_bytes=length_bytes).begin()
        begun.append(length_bytes)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(hold, 5 << 30)
        await trio.sleep(10)
        assert begun == [5 << 30] * 2
        for length_bytes in (10_000, 100_000, 1 << 20):
            nursery.start_soon(hold, length_bytes)
            await trio.sleep(1)
            assert begun[-1] == length_bytes
        nursery.cancel_scope.cancel()


async def test_few_long_bodies_go_at_a_time_and_threads_stay_free(autojump_clock: object) -> None:
    throttle = throttle_in_loop(32)
    begun = []

    async def hold(valve_limit: int) -> None:
        passage = throttle.passage(receives_bytes=100 << 20)
        try:
            await passage.begin()
            begun.append(valve_limit)
            await trio.sleep_forever()
        finally:
            passage.end()

    for limit, most in ((64_000, 2), (5_000_000, 4), (125_000_000, 8)):
        throttle.download.set_limit(limit)
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(hold, limit)
            await trio.sleep(60)
            assert begun.count(limit) == most
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("new_limit, within_s", [(None, LOOK_S), (100_000_000, LOOK_S + 0.1)])
async def test_who_waits_for_a_low_limit_goes_within_a_second_when_it_is_lifted(
    new_limit: int | None, within_s: float, autojump_clock: object
) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(6_400)
    throttle.upload.note(1 << 20, 1 << 20)
    done: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(upload, throttle, 1000, done)
        await trio.sleep(0.7)
        assert done == []
        lifted = trio.current_time()
        throttle.upload.set_limit(new_limit)
    assert max(done) - lifted <= within_s


async def test_a_lowered_limit_leaves_nobody_waiting_for_old_debts(autojump_clock: object) -> None:
    throttle = throttle_in_loop()
    throttle.upload.set_limit(125_000_000)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(upload, throttle, 1 << 20)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    throttle.upload.set_limit(64_000)
    began = trio.current_time()
    await upload(throttle, 10_000)
    assert trio.current_time() - began == pytest.approx((10_000 + HEAD_BYTES) / 64_000, abs=0.01)

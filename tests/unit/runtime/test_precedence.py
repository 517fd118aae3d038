"""Background work takes what programs on the mount leave."""

import math
import time

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import Account, Offload, paid_by
from gatewayfs.runtime.precedence import LOOP_S, QUIET_S, SHARE, Precedence, share

THREADS_S = 0.0004


def _busy() -> Precedence:
    precedence = Precedence(ManualClock())
    precedence.called()
    return precedence


async def _work(precedence: Precedence, done: list[float], count: int) -> None:
    for _ in range(count):
        async with precedence.turn("put") as account:
            account.cpu_s += THREADS_S
        done.append(trio.current_time())


async def _call(precedence: Precedence, until_s: float) -> None:
    while trio.current_time() < until_s:
        precedence.called()
        await trio.sleep(0.001)


def test_without_calls_background_work_never_waits(autojump_clock: trio.testing.MockClock) -> None:
    async def main() -> None:
        done: list[float] = []
        begun = trio.current_time()
        await _work(Precedence(ManualClock()), done, 1000)
        assert done[-1] == begun

    trio.run(main, clock=autojump_clock)


def test_while_calls_come_in_background_work_gets_its_share_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def main() -> None:
        precedence = _busy()
        done: list[float] = []
        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_call, precedence, math.inf)
                for _ in range(16):
                    nursery.start_soon(_work, precedence, done, 10_000)
        used_s = len(done) * (LOOP_S + THREADS_S)
        assert used_s == pytest.approx(2 * SHARE, rel=0.15)

    trio.run(main, clock=autojump_clock)


async def _used_s(backlog: float) -> float:
    """CPU that background work got in two seconds of calls; each piece takes the same time on the wall."""
    precedence, done = _busy(), list[float]()
    precedence.backlog = lambda: backlog

    async def one() -> None:
        while True:
            async with precedence.turn("put") as account:
                await trio.sleep(0.02)
                account.cpu_s += THREADS_S
            done.append(trio.current_time())

    with trio.move_on_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_call, precedence, math.inf)
            for _ in range(16):
                nursery.start_soon(one)
    return len(done) * (LOOP_S + THREADS_S)


def test_the_more_waits_the_more_background_work_gets(autojump_clock: trio.testing.MockClock) -> None:
    async def main() -> None:
        used = [await _used_s(backlog) for backlog in (0.0, 0.7, 1.0)]
        assert used[0] == pytest.approx(2 * SHARE, rel=0.15)
        assert used[1] == pytest.approx(2 * share(0.7), rel=0.15)
        # Sixteen at a time, 20 ms each: nobody waits.
        assert used[2] == pytest.approx(2 / 0.02 * 16 * (LOOP_S + THREADS_S), rel=0.05)

    trio.run(main, clock=autojump_clock)


@given(st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_share_grows_smoothly_from_its_least_to_everything(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert SHARE <= share(less) <= share(more)
    # The pause after a piece of work, which is what is felt, has no jump anywhere, the end included.
    assert 0 <= 1 / share(less) - 1 / share(more) <= 2 / SHARE * (more - less) + 1e-9
    assert share(-1) == share(0) == SHARE
    assert share(1) == share(1.5) == math.inf


def test_when_the_last_call_is_over_everybody_who_waited_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async def main() -> None:
        precedence = _busy()
        done: list[float] = []
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_call, precedence, begun + 0.1)
            for _ in range(16):
                nursery.start_soon(_work, precedence, done, 100)
        assert len(done) == 1600
        assert 0.1 < done[-1] - begun <= 0.1 + 3 * QUIET_S

    trio.run(main, clock=autojump_clock)


def test_a_cancelled_waiter_leaves_the_others_their_turns(autojump_clock: trio.testing.MockClock) -> None:
    async def main() -> None:
        precedence = _busy()
        done: list[float] = []
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_call, precedence, math.inf)
                with trio.move_on_after(0.5):
                    await _work(precedence, [], 10_000)
                nursery.start_soon(_work, precedence, done, 10_000)
        assert len(done) > 0.4 * SHARE / (LOOP_S + THREADS_S)

    trio.run(main, clock=autojump_clock)


def test_threads_are_paid_by_the_task_that_waits_for_them() -> None:
    def spin() -> None:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.01:
            pass

    async def main() -> None:
        offload, mine, others = Offload(2), Account(), Account()
        with paid_by(others):
            pass
        with paid_by(mine):
            await offload.run(spin)
        await offload.run(spin)
        assert 0.01 <= mine.cpu_s < 0.019
        assert others.cpu_s == 0

    trio.run(main)

"""Background work takes what programs on the mount leave."""

import math
import time

import pytest
import trio
import trio.testing

from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.offload import Account, Offload, paid_by
from gatewayfs.runtime.precedence import LOOP_S, QUIET_S, SHARE, Precedence

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

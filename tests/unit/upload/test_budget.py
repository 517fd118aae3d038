"""Bodies under way are bounded, and small ones never wait for large ones."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.upload.context import ByteBudget

MIB = 1 << 20


async def _body(budget: ByteBudget, length: int, over: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    async with budget.hold(length):
        task_status.started()
        await over.wait()


async def test_a_small_body_goes_while_large_ones_fill_the_budget_and_wait_for_it() -> None:
    budget, over = ByteBudget(64 * MIB), trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            await nursery.start(lambda task_status: _body(budget, 8 * MIB, over, task_status=task_status))
        nursery.start_soon(nursery.start, lambda task_status: _body(budget, 8 * MIB, over, task_status=task_status))
        await trio.testing.wait_all_tasks_blocked()
        assert budget.used_bytes == 56 * MIB  # the eighth waits
        with trio.fail_after(1):
            async with budget.hold(64 << 10):
                assert budget.used_bytes == 56 * MIB + (64 << 10)
        over.set()
    assert budget.used_bytes == 0


@pytest.mark.parametrize("length", [1, 64 << 10, (64 << 10) + 1, 1 << 40])
async def test_a_body_over_the_limit_goes_alone(length: int) -> None:
    budget = ByteBudget(4 * MIB)
    async with budget.hold(length):
        assert 0 < budget.used_bytes <= 4 * MIB


@given(st.integers(1, 128 * MIB), st.lists(st.integers(0, 16 * MIB), max_size=30))
def test_never_more_than_the_limit_is_under_way_and_everybody_gets_a_turn(limit: int, lengths: list[int]) -> None:
    async def main() -> None:
        budget, done = ByteBudget(limit), list[int]()

        async def one(length: int) -> None:
            async with budget.hold(length):
                assert budget.used_bytes <= limit
                await trio.lowlevel.checkpoint()
            done.append(length)

        async with trio.open_nursery() as nursery:
            for length in lengths:
                nursery.start_soon(one, length)
        assert sorted(done) == sorted(lengths)
        assert budget.used_bytes == 0

    trio.run(main)

"""Offload: results, errors, limits, and what cancellation does to the thread."""

import threading

import pytest
import trio
import trio.testing

from gatewayfs.runtime.offload import InlineOffload, Offload


def fail() -> None:
    raise KeyError("mine")


@pytest.mark.parametrize("offload", [Offload(2), InlineOffload()], ids=["threads", "inline"])
async def test_results_and_errors_come_back(offload: Offload | InlineOffload) -> None:
    assert await offload.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError, match="mine"):
        await offload.run(fail)
    with trio.testing.assert_checkpoints():
        await offload.run(int)


async def test_work_runs_beside_the_event_loop() -> None:
    assert await Offload(1).run(threading.get_ident) != threading.get_ident()
    assert await InlineOffload().run(threading.get_ident) == threading.get_ident()


async def test_no_more_threads_than_allowed_are_busy() -> None:
    offload = Offload(2)
    gate = threading.Event()
    started: list[int] = []

    def work() -> None:
        started.append(1)
        gate.wait(10)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(offload.run, work)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (len(started), offload.busy) == (2, 2)
        gate.set()
    assert (len(started), offload.busy) == (5, 0)


async def test_without_interrupt_cancellation_waits_for_the_work() -> None:
    offload = Offload(1)
    gate = threading.Event()
    done: list[str] = []

    def work() -> None:
        gate.wait(10)
        done.append("done")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offload.run, work)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        gate.set()
    assert done == ["done"]


async def test_an_interrupted_thread_is_waited_for_and_the_task_is_cancelled() -> None:
    offload = Offload(1)
    gate = threading.Event()
    ended: list[str] = []

    def work() -> None:
        gate.wait(10)
        ended.append("ended")
        raise OSError("socket was shut")

    def interrupt() -> bool:
        gate.set()
        return False

    with trio.move_on_after(0.02) as scope:
        await offload.run(work, interrupt=interrupt)
    assert scope.cancelled_caught
    assert ended == ["ended"]
    assert offload.busy == 0


async def test_work_that_ends_well_in_spite_of_the_interrupt_keeps_its_result() -> None:
    """The answer was there already; losing it would only make somebody ask again."""
    gate = threading.Event()

    def work() -> str:
        gate.wait(10)
        return "answer"

    def interrupt() -> bool:
        gate.set()
        return False

    with trio.move_on_after(0.02):
        assert await Offload(1).run(work, interrupt=interrupt) == "answer"


@pytest.mark.parametrize("way", ["abandon", "interrupt"])
async def test_abandoned_work_keeps_its_place_until_it_ends(way: str) -> None:
    offload = Offload(1)
    gate = threading.Event()
    arguments = {"abandon_on_cancel": True} if way == "abandon" else {"interrupt": lambda: True}
    with trio.move_on_after(0.02) as scope:
        await offload.run(gate.wait, 10, **arguments)
    assert scope.cancelled_caught
    assert offload.busy == 1
    gate.set()
    assert await offload.run(int) == 0


def test_an_abandoned_thread_may_outlive_the_loop() -> None:
    gate = threading.Event()
    ended = threading.Event()

    def work() -> None:
        gate.wait(10)
        ended.set()

    async def main() -> None:
        with trio.move_on_after(0.02):
            await Offload(1).run(work, abandon_on_cancel=True)

    trio.run(main)
    gate.set()
    assert ended.wait(10)

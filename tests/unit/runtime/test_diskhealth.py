"""Watching a disk: with a device that does as it is told, and a clock that jumps."""

import errno
import os

import pytest
import trio

from gatewayfs.errors import CacheDiskHangs, ChangesRefused
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.runtime.diskhealth import DATA_WAIT_S, NAMES_WAIT_S, WAITING_MAX, DiskHealth, Probe
from gatewayfs.runtime.diskstate import CALM_S, STUCK_S, Condition


class Device:
    """Answers probes after ``takes_s``, or with an error; ``waiting_s`` is what its threads would tell."""

    def __init__(self):
        self.takes_s, self.error, self.waiting_s, self.probes = 0.0, None, 0.0, 0
        self.lost = ""

    async def run(self, fn, *args, abandon_on_cancel=False, interrupt=None):
        self.probes += 1
        while self.takes_s == float("inf"):
            await trio.sleep(0.1)
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return fn(*args)


@pytest.fixture
def device():
    return Device()


@pytest.fixture
async def health(device, nursery):
    made = DiskHealth(ManualClock(), lambda: None, device, lambda: device.waiting_s)
    made.unkept = lambda: device.lost
    nursery.start_soon(made.run)
    return made


async def becomes(health, condition, within_s=60.0):
    with trio.fail_after(within_s):
        while health.state.condition is not condition:
            await trio.sleep(0.05)


async def test_an_idle_healthy_disk_is_not_asked(health, device, autojump_clock):
    await trio.sleep(600)
    assert device.probes == 0
    device.waiting_s = 5.0  # somebody writes back gigabytes: the disk is asked, and does well
    await trio.sleep(10)
    assert device.probes > 1
    assert health.fit


async def test_a_disk_that_hangs_is_noticed_in_time_lets_go_of_readers_and_recovers(health, device, autojump_clock):
    device.takes_s, device.waiting_s = float("inf"), 1.0
    started_s = trio.current_time()
    with health.while_fit() as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert STUCK_S <= trio.current_time() - started_s < STUCK_S + 1.0
    assert health.refusal()
    with health.while_fit() as scope:
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught, "as long as it lasts"
    device.takes_s = device.waiting_s = 0.0
    await becomes(health, Condition.UNSTABLE)
    assert health.takes_changes
    assert not health.refusal()
    await becomes(health, Condition.NORMAL, CALM_S + 5)
    assert health.status().reason == ""


async def test_changes_wait_for_a_disk_that_hangs_and_are_refused_when_it_takes_too_long(
    health, device, autojump_clock, nursery
):
    device.takes_s, device.waiting_s = float("inf"), 1.0
    await becomes(health, Condition.HANGING)
    started_s = trio.current_time()
    with pytest.raises(ChangesRefused, match="hanging"):
        await health.admit()
    assert trio.current_time() - started_s == pytest.approx(NAMES_WAIT_S)
    with pytest.raises(CacheDiskHangs):
        await health.answers()
    assert trio.current_time() - started_s == pytest.approx(NAMES_WAIT_S + DATA_WAIT_S)

    async def answer():
        await trio.sleep(1.0)
        device.takes_s = device.waiting_s = 0.0

    nursery.start_soon(answer)
    await health.admit()
    await health.answers()
    assert health.status().refused == 1


async def test_no_more_callers_wait_than_the_mount_can_spare(health, device, autojump_clock):
    device.takes_s, device.waiting_s = float("inf"), 1.0
    await becomes(health, Condition.HANGING)
    took = []

    async def change():
        started_s = trio.current_time()
        with pytest.raises(ChangesRefused):
            await health.admit(DATA_WAIT_S)
        took.append(trio.current_time() - started_s)

    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX + 10):
            nursery.start_soon(change)
    assert sum(1 for each in took if each < 1.0) == 10


async def test_failing_writes_refuse_changes_until_probes_go_well(health, device, autojump_clock):
    device.error = errno.EIO
    health.write_failed("pack 1: Input/output error")
    await becomes(health, Condition.READ_ONLY)
    with pytest.raises(ChangesRefused, match="read-only"):
        await health.admit()
    assert not health.refusal(), "what must be recorded is tried: it fails, or it does not"
    device.error = None
    await becomes(health, Condition.NORMAL)
    await health.admit()


async def test_what_is_lost_keeps_changes_refused(health, device, autojump_clock):
    device.lost = "it lost bytes of 1 files"
    await becomes(health, Condition.READ_ONLY)
    await trio.sleep(600)
    assert health.state.condition is Condition.READ_ONLY
    device.lost = ""
    await becomes(health, Condition.NORMAL)


def test_the_probe_asks_the_disk_and_tells_other_bytes_from_its_own(tmp_path, monkeypatch):
    probe = Probe(tmp_path / "probe")
    probe()
    first = (tmp_path / "probe").read_bytes()
    probe()
    assert len(first) == 4096
    assert (tmp_path / "probe").read_bytes() != first
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(OSError, match="other bytes"):
        probe()
    monkeypatch.undo()
    with pytest.raises(NotADirectoryError):
        Probe(tmp_path / "probe" / "x")()

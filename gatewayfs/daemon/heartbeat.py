"""Signs of life for systemd: the watchdog's ping, and the line that ``systemctl status`` shows.

A ping is worth something only if what it vouches for was tried: a thread asks the kernel for the statistics of our
mount, which the kernel never answers by itself. The question travels through the mount, the event loop and back. A loop
that hangs cannot send the ping, a mount that does not answer is not pinged for; systemd then kills the daemon (SIGABRT,
so that the stacks are in the journal) and starts it again. Waiting for the bucket is no reason: ``statvfs`` needs none.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import trio

from gatewayfs.runtime.offload import Offloader

log = logging.getLogger(__name__)

PER_WATCHDOG = 3
"""Pings per time that systemd waits: a slow one in between must not kill a gateway that works."""

STATUS_S = 20.0
"""How often the line of ``systemctl status`` is looked at where there is no watchdog."""


class Heartbeat:
    """Pings, and news of the status line.

    Args:
        mountpoint: our own mount.
        offload: of one thread: should the mount hang, one question hangs, not one per interval.
        watchdog_s: within how many seconds a ping is wanted; None: never.
        status: one line on how things are.
        notify: takes a message for systemd and returns whether anybody listens.
        ask: asks the mount; blocks, raises OSError.
    """

    def __init__(
        self,
        mountpoint: Path,
        offload: Offloader,
        watchdog_s: float | None,
        status: Callable[[], str],
        notify: Callable[[str], bool],
        ask: Callable[[Path], object] = os.statvfs,
    ) -> None:
        self._mountpoint = mountpoint
        self._offload = offload
        self._watchdog_s = watchdog_s
        self._status = status
        self._notify = notify
        self._ask = ask

    async def run(self) -> None:
        """Until cancelled; at once back where nobody listens."""
        interval_s = STATUS_S if self._watchdog_s is None else self._watchdog_s / PER_WATCHDOG
        told = ""
        while True:
            if (status := self._status()) != told:
                if not self._notify(f"STATUS={status}") and not told:
                    return
                told = status
            if self._watchdog_s is not None and await self._answers(interval_s):
                self._notify("WATCHDOG=1")
            await trio.sleep(interval_s)

    async def _answers(self, within_s: float) -> bool:
        try:
            with trio.fail_after(within_s):
                await self._offload.run(self._ask, self._mountpoint, abandon_on_cancel=True)
        except trio.TooSlowError:
            log.error("the mount %s did not answer within %g s; systemd is not pinged", self._mountpoint, within_s)
            return False
        except OSError as problem:
            log.error("the mount %s does not answer: %s; systemd is not pinged", self._mountpoint, problem.strerror)
            return False
        return True

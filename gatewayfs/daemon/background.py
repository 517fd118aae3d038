"""Small disk jobs that nobody waits for."""

import logging
from collections.abc import Callable

import trio

from gatewayfs.runtime.offload import Offload

log = logging.getLogger(__name__)


class Background:
    """Starts small disk jobs (giving space back) in threads without waiting for them."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._send, self._receive = trio.open_memory_channel[Callable[[], None]](1 << 20)

    def __call__(self, job: Callable[[], None]) -> None:
        self._send.send_nowait(job)

    async def run(self) -> None:
        """Do the jobs, one after the other; a failed one is logged (its space is lost until the next start)."""
        async for job in self._receive:
            try:
                await self._offload.run(job)
            except OSError:
                log.exception("could not give cache space back")

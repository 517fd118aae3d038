"""nfs-ganesha under supervision, so that clients see a crash of a gateway as a delay and nothing else.

When a gateway dies its mount answers ENOTCONN, and nfs-ganesha passes that on to clients as an input/output error; it
does so for ever, because it keeps descriptors of the dead mount, and neither SIGHUP nor a new mount on the same
directory changes that (4.3, tried). So ganesha must be gone before the mount can answer, and come back after it serves:

* We hold a descriptor of the mount's /dev/fuse beside the gateway's (``pidfd_getfd``). While somebody has one, the
  kernel lets calls wait instead of failing them, also when the gateway is dead.
* When the gateway's process ends, ganesha is killed first and our descriptor closed then: the calls end with nobody
  left to tell clients. To them the server is silent, which a hard mount rides out.
* When every share serves again ganesha is started, with a grace period in which clients take back opens and locks.

ganesha waits for *all* installed shares: one that is missing would be an empty directory to its clients, or their
handles would be stale.
"""

import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from gatewayfs.runtime.processes import borrowed_descriptors

log = logging.getLogger(__name__)

FUSE_DEVICE = Path("/dev/fuse")
POLL_S = 0.1
SAID_AGAIN_S = 60.0
LIST_S = 1.0
ENDING_S_MAX = 10.0
RESTART_S = 1.0
"""Between starts of a ganesha that ends by itself; a broken configuration must not spin."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway that serves: its process and our hold on its mount."""

    directory: Path
    pidfd: int
    fuse: list[int]

    def let_go(self) -> None:
        """When the gateway is dead, calls on its mount end now."""
        while self.fuse:
            os.close(self.fuse.pop())

    def close(self) -> None:
        self.let_go()
        os.close(self.pidfd)


class Supervisor:
    """Keeps ganesha running while all shares serve, and only then.

    Args:
        command: how ganesha is started, staying in the foreground.
        directories: tells which mount directories are exported; asked before every start.
        serving: the gateway's pid when the directory is served, else None.
    """

    def __init__(
        self,
        command: Sequence[str],
        directories: Callable[[], frozenset[Path]],
        serving: Callable[[Path], int | None],
    ) -> None:
        self._command = list(command)
        self._directories = directories
        self._serving = serving

    async def run(self) -> None:
        """Until cancelled; then ganesha is ended in an orderly way."""
        while True:
            gateways = await self._all_serving()
            try:
                await self._serve(gateways)
            finally:
                for gateway in gateways:
                    gateway.close()

    async def _all_serving(self) -> list[Gateway]:
        """Wait until every share serves, and take hold of their mounts."""
        waited_s = 0.0
        while True:
            wanted = self._directories()
            found = [gateway for directory in sorted(wanted) if (gateway := self._hold(directory)) is not None]
            if wanted and len(found) == len(wanted):
                return found
            for gateway in found:
                gateway.close()
            if waited_s % SAID_AGAIN_S < POLL_S:
                missing = wanted - {gateway.directory for gateway in found}
                named = ", ".join(str(directory) for directory in sorted(missing)) or "a share to be installed"
                log.info("nfs-ganesha waits for %s", named)
            waited_s += POLL_S
            await trio.sleep(POLL_S)

    def _hold(self, directory: Path) -> Gateway | None:
        pid = self._serving(directory)
        if pid is None:
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            fuse = borrowed_descriptors(pid, pidfd, FUSE_DEVICE)
        except OSError as problem:
            log.warning(
                "cannot take hold of the mount on %s: %s; a crash will be an error to clients", directory, problem
            )
            fuse = []
        return Gateway(directory, pidfd, fuse)

    async def _serve(self, gateways: list[Gateway]) -> None:
        """Run ganesha until a gateway or ganesha itself ends, or the list of shares changes."""
        process = await trio.lowlevel.open_process(self._command, stdin=subprocess.DEVNULL)
        shares = ", ".join(str(gateway.directory) for gateway in gateways)
        log.info("nfs-ganesha runs (pid %d) for %s", process.pid, shares)
        why = Why()
        try:
            async with trio.open_nursery() as nursery:
                for gateway in gateways:
                    nursery.start_soon(_watch_gateway, gateway, process, why)
                nursery.start_soon(self._watch_list, frozenset(gateway.directory for gateway in gateways), process, why)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            if process.returncode is None:
                await _end(process)
        if why.text:
            log.warning("%s; clients wait until nfs-ganesha serves again", why.text)
        else:
            log.warning("nfs-ganesha ended with status %s; it is started again", process.returncode)
            await trio.sleep(RESTART_S)

    async def _watch_list(self, known: frozenset[Path], process: trio.Process, why: "Why") -> None:
        while True:
            if self._directories() != known:
                break
            await trio.sleep(LIST_S)
        why.text = "the list of exported shares changed"
        process.kill()


@dataclass
class Why:
    """What ended ganesha, when it did not end by itself."""

    text: str = ""


async def _watch_gateway(gateway: Gateway, process: trio.Process, why: Why) -> None:
    """The gateway's process is gone: not a word more to any client."""
    await trio.lowlevel.wait_readable(gateway.pidfd)
    process.kill()
    why.text = f"the gateway of {gateway.directory} ended"
    # What ganesha's threads wait for inside the kernel is answered now, or they could not end.
    gateway.let_go()


async def _end(process: trio.Process) -> None:
    """SIGTERM, and SIGKILL when that takes too long."""
    process.terminate()
    with trio.move_on_after(ENDING_S_MAX, shield=True) as patience:
        await process.wait()
    if patience.cancelled_caught:
        process.kill()

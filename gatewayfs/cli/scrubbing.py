"""``gatewayfs check --scrub``: every byte in the cache, read from the disk and compared.

A running gateway does it itself, at once and as fast as its programs let it. Without one the cache directory is opened
here, under its lock; what is damaged is dropped or fenced just as a gateway would.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gatewayfs.cli.gateway import call
from gatewayfs.cli.render import console, human_bytes
from gatewayfs.control import calls
from gatewayfs.control.registry import Registration


def scrub_running(gateway: Registration) -> dict[str, Any]:
    """Have a running gateway do it; a ``control.calls.CheckResult``."""
    with _bar(None) as show:

        def told(frame: Mapping[str, Any]) -> None:
            show(0, int(frame.get("checked_bytes") or 0))

        return call(gateway, calls.CHECK, {"scrub": True}, progress=told)


def scrub_directory(directory: Path) -> dict[str, Any]:
    """Scrub the cache directory of a gateway that does not run; a ``control.calls.CheckResult``.

    Raises:
        UserError: a gateway is using it.
        CorruptRecord: it cannot even be opened; ``gatewayfs recover`` is for that.
    """
    import trio

    from gatewayfs.cache.content import ContentCache
    from gatewayfs.cache.scrubmarks import report
    from gatewayfs.meta.env import MetaStore
    from gatewayfs.meta.recovery import read_recovery
    from gatewayfs.runtime.clock import SystemClock
    from gatewayfs.runtime.offload import InlineOffload
    from gatewayfs.s3.offline import OfflineStore

    async def scrub(meta: MetaStore) -> dict[str, Any]:
        cache = ContentCache(
            directory, meta=meta, store=OfflineStore(), clock=clock, offload=offload, background=lambda job: job()
        )
        try:
            with _bar(meta.inode_count) as show:
                looked = 0

                def told(done: int, checked_bytes: int) -> None:
                    nonlocal looked
                    looked += done
                    show(looked, checked_bytes)

                tally = await cache.integrity.scrub.whole(lambda done, found: told(done, found.checked_bytes))
            return report(tally, cache.integrity.damage.fences)
        finally:
            cache.close()

    clock, offload = SystemClock(), InlineOffload()
    meta = MetaStore.open(directory, prefix=read_recovery(directory).prefix, clock=clock, offload=offload)
    try:
        return trio.run(scrub, meta)
    finally:
        meta.close()


@contextmanager
def _bar(records: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; yields what moves it: records looked at, and bytes compared."""
    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("reading the cache", total=records)
        yield lambda done, checked_bytes: bar.update(
            task, completed=done, description=f"reading the cache: {human_bytes(checked_bytes)}"
        )

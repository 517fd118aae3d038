"""``gatewayfs check``: do records, cache files and queue agree?

A running gateway checks itself, beside its work. Without one the cache directory is opened here, under its lock,
exactly as the next start would open it (what a crash left in the journal is replayed), and nothing else is changed.
``--scrub`` reads all bytes in the cache besides (``scrubbing.py``).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, add_json, add_target
from gatewayfs.cli.render import human_bytes, plural
from gatewayfs.cli.scrubbing import scrub_directory, scrub_running
from gatewayfs.control import calls

PROBLEMS_SHOWN = 100
BATCH = 500

STORY = """\
Look at every record, at the entries that must agree with it, and at the bytes on the cache disk that it names
(bytes of small files against their checksum). Nothing is changed. The exit status is 0 when all agrees, 6 when
something does not.

With --scrub instead: read everything in the cache from the disk and compare it with its checksums. Damaged blocks that
the bucket has, too, leave the cache; files with others are named, and refuse to be read or uploaded from then on."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "check",
        STORY,
        """gatewayfs check /mnt/photos
        gatewayfs check /var/cache/gatewayfs/photos --json
        gatewayfs check /var/cache/gatewayfs/photos --scrub""",
    )
    add_target(parser, "mount directory, the share's name, or a cache directory")
    parser.add_argument("--scrub", action="store_true", help="read and compare all bytes in the cache")
    add_json(parser)
    arguments = parser.parse(argv)
    gateway = registry().lookup(arguments.target)
    check = scrub_directory if arguments.scrub else check_directory
    if gateway is not None and gateway.running:
        result = scrub_running(gateway) if arguments.scrub else call(gateway, calls.CHECK)
    elif gateway is not None:
        result = check(Path(gateway.cache_directory))
    elif is_cache_directory(Path(arguments.target)):
        result = check(Path(arguments.target))
    else:
        registry().find(arguments.target)  # raises: neither a gateway nor a cache directory
        raise AssertionError("a gateway appeared meanwhile")
    if arguments.json:
        print(json.dumps(result))
    elif arguments.scrub:
        _show_scrub(result)
    else:
        _show(result)
    return exitcodes.FINDINGS if result.get("problems") else exitcodes.OK


def is_cache_directory(directory: Path) -> bool:
    """Whether a gateway ever kept its records there."""
    return (directory / "recovery").is_dir() and (directory / "journal").is_dir()


def check_directory(directory: Path) -> dict[str, Any]:
    """Check the cache directory of a gateway that does not run; a ``control.calls.CheckResult``.

    Raises:
        UserError: a gateway is using it.
        CorruptRecord: it cannot even be opened; ``gatewayfs recover`` is for that.
    """
    from gatewayfs.cache.packs import Packs
    from gatewayfs.cache.sparse import Folder
    from gatewayfs.cache.verify import wrong_with
    from gatewayfs.meta.check import check
    from gatewayfs.meta.env import MetaStore
    from gatewayfs.meta.recovery import read_recovery
    from gatewayfs.runtime.clock import SystemClock
    from gatewayfs.runtime.disk import Disk
    from gatewayfs.runtime.diskhealth import unwatched
    from gatewayfs.runtime.offload import InlineOffload

    prefix = read_recovery(directory).prefix
    clock, offload = SystemClock(), InlineOffload()
    meta = MetaStore.open(directory, prefix=prefix, clock=clock, offload=offload)
    try:
        problems = list(check(meta))
        packs = Packs(directory / "packs", Disk(offload, offload, unwatched(clock, offload)), punch=lambda *_: None)
        folder = Folder(directory / "data", meta, background=lambda _: None)
        looked = after = 0
        while batch := meta.inodes_after(after, BATCH):
            problems += filter(None, (wrong_with(inode, packs, folder) for inode in batch))
            after, looked = batch[-1].ino, looked + len(batch)
        packs.close()
    finally:
        meta.close()
    return {"problems": problems, "inodes": looked}


def _show_problems(result: dict[str, Any]) -> list[str]:
    problems: list[str] = result.get("problems") or []
    for problem in problems[:PROBLEMS_SHOWN]:
        print(problem)
    if len(problems) > PROBLEMS_SHOWN:
        print(f"and {len(problems) - PROBLEMS_SHOWN:,} more (--json shows all)")
    return problems


def _show_scrub(result: dict[str, Any]) -> None:
    problems = _show_problems(result)
    checked, unvouched = int(result.get("checked_bytes") or 0), int(result.get("unvouched_bytes") or 0)
    files = plural(int(result.get("files") or 0), "file")
    rest = f"; {human_bytes(unvouched)} have nothing to be compared with" if unvouched else ""
    print(f"{files} read, {human_bytes(checked)} compared, {'damage found' if problems else 'all as written'}{rest}")


def _show(result: dict[str, Any]) -> None:
    problems = _show_problems(result)
    looked = plural(int(result.get("inodes") or 0), "record")
    print(f"{looked} checked, {plural(len(problems), 'disagreement') if problems else 'all agree'}")

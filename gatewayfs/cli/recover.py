"""``gatewayfs recover``: new records from the recovery log and the journal, when the LMDB environment is lost."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewayfs.cli import exitcodes
from gatewayfs.cli.check import is_cache_directory
from gatewayfs.cli.parsing import Parser, add_json
from gatewayfs.cli.render import plural
from gatewayfs.errors import UserError

if TYPE_CHECKING:
    from gatewayfs.meta.recovery import RebuildReport

STORY = """\
Rebuild the records of a cache directory whose LMDB environment (its directory meta) is lost or damaged. Every file
that is not uploaded yet comes back with its path, attributes and bytes, and so do deletions that are not done yet;
everything else is in the bucket and is listed again. A former environment is kept beside the new one as meta.old-N.

No gateway may run on the directory. Records that open without damage are left alone unless --force is given."""


def run(argv: Sequence[str]) -> int:
    parser = Parser("recover", STORY, "gatewayfs recover --cache-dir /var/cache/gatewayfs/photos")
    parser.add_argument("--cache-dir", metavar="DIR", required=True, help="the cache directory")
    parser.add_argument("--prefix", metavar="PREFIX", help="the share's prefix, where the log is too damaged to tell")
    parser.add_argument("--force", action="store_true", help="rebuild even when the records open without damage")
    add_json(parser)
    arguments = parser.parse(argv)
    directory = Path(arguments.cache_dir).absolute()
    if not is_cache_directory(directory):
        raise UserError(
            f"{directory} is no cache directory: it has no recovery log", "name the share's cache.directory"
        )
    from gatewayfs.config import normalize_prefix
    from gatewayfs.meta.recovery import rebuild

    _refuse_healthy(directory, force=arguments.force)
    prefix = None if arguments.prefix is None else normalize_prefix(arguments.prefix)
    report = rebuild(directory, prefix)
    if arguments.json:
        print(json.dumps(_plain(report)))
    else:
        _show(directory, report)
    return exitcodes.OK


def _refuse_healthy(directory: Path, *, force: bool) -> None:
    """Raises UserError when the records open: rebuilding would forget every clean file's record for nothing.

    ``force`` rebuilds them all the same. Never those of a newer program (SchemaTooNew): this one may not understand its
    recovery log, and what it made of it would be all that is left.
    """
    from gatewayfs.errors import LocalError, SchemaTooNew
    from gatewayfs.meta.env import MetaStore
    from gatewayfs.meta.recovery import read_recovery
    from gatewayfs.runtime.clock import SystemClock
    from gatewayfs.runtime.offload import InlineOffload

    if not (directory / "meta" / "data.mdb").exists():
        return
    try:
        prefix = read_recovery(directory).prefix
        MetaStore.open(directory, prefix=prefix, clock=SystemClock(), offload=InlineOffload()).close()
    except SchemaTooNew:
        raise
    except LocalError:
        return
    if force:
        return
    raise UserError(
        f"the records in {directory} open without damage, so there is nothing to recover",
        "gatewayfs check looks closer; recover --force rebuilds them all the same",
    )


def _plain(report: "RebuildReport") -> dict[str, Any]:
    return {
        "dirty_files": report.dirty_files,
        "directories": report.directories,
        "deletions": report.doomed,
        "moved_to_root": [os.fsdecode(name) for _, name in report.moved_to_root],
        "renamed": [os.fsdecode(name) for _, name in report.renamed],
        "old_environment": str(report.old_environment) if report.old_environment else None,
    }


def _show(directory: Path, report: "RebuildReport") -> None:
    print(
        f"recovered {plural(report.dirty_files, 'file')} that are not uploaded yet, "
        f"{plural(report.directories, 'directory')} and {plural(report.doomed, 'deletion')}"
    )
    for _, name in report.moved_to_root:
        print(f"  its directory is lost, it is in the root now: {os.fsdecode(name)}")
    for _, name in report.renamed:
        print(f"  its name was taken, it is called now: {os.fsdecode(name)}")
    if report.old_environment:
        print(f"the former records are kept in {report.old_environment}; remove them when all is well")
    print(f"mount the share again with --cache-dir {directory}")

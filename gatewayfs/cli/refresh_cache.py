"""``gatewayfs refresh-cache``: look again what is in the bucket."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry, relative_path
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target
from gatewayfs.cli.render import console, human_duration, lines_of, plural
from gatewayfs.control import calls
from gatewayfs.control.registry import Registration

FOLDERS_MAX = 50
"""As AWS Storage Gateway's RefreshCache."""

STORY = """\
List folders of the bucket again and show what other programs added, changed or removed there. Only names and attributes
are fetched; cached bytes of unchanged objects stay, and local changes that are not uploaded yet are never lost.

Prints the notification id, which the completion event will carry, and returns at once; at most two run at a time for a
share. With --wait it returns when the refresh has ended, with what it did (exit status 0), or with the reason why it
could not (exit status 1). Interrupting the wait does not end the refresh; --cancel does."""


def run(argv: Sequence[str]) -> int:
    arguments = _parsed(argv)
    gateway = registry().find(arguments.target)
    if arguments.list:
        return _list(gateway, as_json=arguments.json)
    if arguments.cancel is not None:
        call(gateway, calls.REFRESH_CANCEL, {"notification_id": arguments.cancel})
        return exitcodes.OK
    folders = [relative_path(folder, gateway.mountpoint) for folder in arguments.folder or ["/"]]
    asked = {"folders": folders, "recursive": not arguments.no_recursive, "wait": arguments.wait}
    job = _wait(gateway, asked) if arguments.wait else call(gateway, calls.REFRESH, asked)
    if arguments.json:
        print(json.dumps(job))
    elif arguments.wait:
        for line in _lines(job):
            console().print(line)
    else:
        print(job.get("notification_id"))
    return exitcodes.FAILURE if job.get("state") in ("failed", "cancelled") else exitcodes.OK


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "refresh-cache",
        STORY,
        """gatewayfs refresh-cache --wait /mnt/photos
        gatewayfs refresh-cache --folder 2024 --folder 2025/05 --no-recursive photos
        gatewayfs refresh-cache --list photos""",
    )
    add_target(parser)
    parser.add_argument(
        "--folder",
        metavar="PATH",
        action="append",
        default=[],
        help="refresh this folder (a path in the mount; may be repeated). Default: the whole share",
    )
    parser.add_argument("--no-recursive", action="store_true", help="only the folders themselves, nothing below")
    parser.add_argument("--wait", action="store_true", help="return when it has ended, and say what it did")
    parser.add_argument("--list", action="store_true", help="show the refreshes that run, and the last that ended")
    parser.add_argument("--cancel", metavar="ID", help="end the refresh of this notification id")
    add_json(parser)
    arguments = parser.parse(argv)
    if len(arguments.folder) > FOLDERS_MAX:
        raise UsageError(f"{len(arguments.folder)} folders are too many", f"name at most {FOLDERS_MAX}")
    begins = bool(arguments.folder or arguments.no_recursive or arguments.wait)
    if begins + arguments.list + (arguments.cancel is not None) > 1:
        raise UsageError("--list and --cancel begin no refresh", "give each alone")
    return arguments


def _wait(gateway: Registration, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Refresh and wait, with a progress bar on a terminal."""
    err = console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("refreshing", total=None)

        def show(frame: Mapping[str, Any]) -> None:
            bar.update(
                task,
                total=frame.get("names_total"),
                completed=int(frame.get("names") or 0),
                description=_counted(frame),
            )

        return call(gateway, calls.REFRESH, asked, progress=show)


def _list(gateway: Registration, *, as_json: bool) -> int:
    found = call(gateway, calls.REFRESH_JOBS)
    if as_json:
        print(json.dumps(found))
        return exitcodes.OK
    jobs = [*(found.get("running") or ()), *(found.get("recent") or ())]
    for job in jobs:
        reason = f" ({job['reason']})" if job.get("reason") else ""
        folders = ", ".join(job.get("folders") or ())
        print(
            f"{job.get('notification_id')}  {job.get('state')}{reason}  {job.get('started')}  "
            f"{human_duration(job.get('elapsed_s') or 0)}  {_counted(job.get('report') or {})}  {folders}"
        )
    if not jobs:
        print("no refresh has run yet")
    return exitcodes.OK


def _lines(job: Mapping[str, Any]) -> Iterator[str]:
    """The end of a refresh, for a person."""
    reason = f": {job['reason']}" if job.get("reason") else ""
    yield f"{job.get('state')}{reason}, in {human_duration(job.get('elapsed_s') or 0)}"
    yield from lines_of(job.get("report") or {}, depth=0)


def _counted(report: Mapping[str, Any]) -> str:
    differing = sum(int(report.get(name) or 0) for name in ("added", "changed", "removed"))
    return f"{plural(int(report.get('names') or 0), 'name')}, {plural(differing, 'change')}"

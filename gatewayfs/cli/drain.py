"""``gatewayfs drain``: upload what is queued now, without waiting for it to settle."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, add_json, add_target, positive_seconds
from gatewayfs.cli.render import console, human_bytes, human_rate, one_line, plural
from gatewayfs.control import calls
from gatewayfs.control.registry import Registration

LEFT_LINES_MAX = 20

STORY = """\
Put everything that is queued to the front, settle times skipped, and return at once. With --wait: return when
everything written before this call is in the bucket (exit status 0), or when some of it cannot be uploaded or the
time is up (exit status 5, with a list of what is left and why)."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "drain",
        STORY,
        """gatewayfs drain --wait /mnt/photos
        gatewayfs drain --wait --timeout 10m photos && echo all is in the bucket""",
    )
    add_target(parser)
    parser.add_argument("--wait", action="store_true", help="return when everything is in the bucket")
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=positive_seconds,
        help='with --wait: wait at most this long, like "90s" or "10m"',
    )
    add_json(parser)
    arguments = parser.parse(argv)
    gateway = registry().find(arguments.target)
    if arguments.wait or arguments.timeout is not None:
        result = drain(gateway, arguments.timeout)
    else:
        result = call(gateway, calls.DRAIN, {"wait": False})
    if arguments.json:
        print(json.dumps(result))
    elif arguments.wait or arguments.timeout is not None:
        show_left(result)
    else:
        print(f"uploading {amount(result)}; gatewayfs status shows how far it is")
    waited = arguments.wait or arguments.timeout is not None
    return exitcodes.WORK_LEFT if waited and left_of(result) else exitcodes.OK


def drain(gateway: Registration, timeout_s: float | None) -> dict[str, Any]:
    """Drain and wait, with a progress bar on a terminal; returns the gateway's DrainResult."""
    arguments: dict[str, Any] = {"wait": True}
    if timeout_s is not None:
        arguments["timeout_s"] = timeout_s
    err = console(stderr=True)
    with Progress(*_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("uploading", total=None)

        def show(frame: Mapping[str, Any]) -> None:
            # Bytes say more, but a queue of renames and deletions has none.
            unit = "bytes" if frame.get("bytes_total") else "files"
            total, left = frame.get(f"{unit}_total") or 0, frame.get(f"{unit}_left") or 0
            bar.update(task, total=max(total, left) or None, completed=max(total - left, 0), description=_told(frame))

        # The gateway keeps the time, so that it can say what is left; ours is only for one that does not.
        patience_s = None if timeout_s is None else timeout_s + 30
        return call(gateway, calls.DRAIN, arguments, progress=show, timeout_s=patience_s)


def left_of(result: Mapping[str, Any]) -> int:
    """How many changes are not in the bucket."""
    return max(int(result.get("files_left") or 0), len(result.get("left") or ()))


def amount(result: Mapping[str, Any]) -> str:
    """ "3 files (1.2 MiB)"."""
    size = result.get("bytes_left")
    return plural(left_of(result), "file") + (f" ({human_bytes(size)})" if size else "")


def show_left(result: Mapping[str, Any]) -> None:
    """What is not in the bucket, with reasons, the oldest first; or that nothing is left."""
    if not left_of(result):
        print("everything is in the bucket")
        return
    print(f"{amount(result)} not in the bucket yet:")
    listed = list(result.get("left") or ())
    if held := int(result.get("held") or 0):
        print(f"  {plural(held, 'change')} held; gatewayfs queue release lets them go")
    for item in listed[:LEFT_LINES_MAX]:
        print(f"  {one_line(item)}")
    more = left_of(result) - held - min(len(listed), LEFT_LINES_MAX)
    if more > 0:
        print(f"  and {more:,} more; gatewayfs queue ls tells the reasons")


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()


def _told(frame: Mapping[str, Any]) -> str:
    rate = frame.get("bytes_per_s")
    return f"{amount(frame)} left" + (f", {human_rate(rate)}" if rate else "")

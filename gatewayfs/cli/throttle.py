"""``gatewayfs throttle``: bandwidth limits of a running gateway, now and by a weekly schedule."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target
from gatewayfs.cli.render import console, human_rate
from gatewayfs.config.units import DAYS, format_rate, parse_rate_limit
from gatewayfs.control import calls
from gatewayfs.errors import UserError

STORY = """\
Bandwidth limits. They take effect at once, also for what is under way, and are kept across restarts. Uploads and
downloads of files wait for their limit; names and attributes never do.

  show       limits, rates of the last ten seconds, the schedule
  set        limit uploads, downloads or both from now on
  schedule   show the weekly schedule, or replace it by the one in FILE ("-" reads standard input)

A schedule is JSON as AWS Storage Gateway takes it: up to 20 intervals, days 0 (Sunday) to 6, bits per second; an
interval ends at the end of its last minute. While one is in effect its limits count instead of those that were set:

  [{"DaysOfWeek": [1, 2, 3, 4, 5], "StartHourOfDay": 8, "StartMinuteOfHour": 0, "EndHourOfDay": 17,
    "EndMinuteOfHour": 59, "AverageUploadRateLimitInBitsPerSec": 40000000}]"""

DIRECTIONS = ("upload", "download")


def run(argv: Sequence[str]) -> int:
    arguments = _parsed(argv)
    gateway = registry().find(arguments.target)
    if arguments.action == "set":
        given = {f"{name}_bytes_per_s": getattr(arguments, name)[0] for name in DIRECTIONS if getattr(arguments, name)}
        result = call(gateway, calls.THROTTLE_SET, given)
    elif arguments.file is not None or arguments.clear:
        intervals = [] if arguments.clear else read_schedule(arguments.file)
        result = call(gateway, calls.THROTTLE_SCHEDULE, {"intervals": intervals})
    else:
        result = call(gateway, calls.THROTTLE)
    if arguments.json:
        shown = {"BandwidthRateLimitIntervals": result["intervals"]} if arguments.action == "schedule" else result
        print(json.dumps(shown))
    else:
        show(result, schedule_only=arguments.action == "schedule")
    return exitcodes.OK


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "throttle",
        STORY,
        """gatewayfs throttle show /mnt/photos
        gatewayfs throttle set photos --upload 40Mbit --download off
        gatewayfs throttle schedule photos office-hours.json""",
    )
    parser.add_argument("action", metavar="show|set|schedule", choices=("show", "set", "schedule"))
    add_target(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", help="JSON file of the new schedule")
    for name in DIRECTIONS:
        parser.add_argument(
            f"--{name}", metavar="RATE", type=_limit, help=f'limit {name}s: "40Mbit", "5MB/s", bytes, or "off"'
        )
    parser.add_argument("--clear", action="store_true", help="remove the schedule")
    add_json(parser)
    arguments = parser.parse(argv)
    limits = arguments.upload is not None or arguments.download is not None
    if arguments.action == "set" and not limits:
        raise UsageError("throttle set: nothing to set", "give --upload RATE, --download RATE or both")
    if arguments.action != "set" and limits:
        raise UsageError(f"throttle {arguments.action} takes no limits", "gatewayfs throttle set does")
    if arguments.action != "schedule" and (arguments.file is not None or arguments.clear):
        raise UsageError(f"throttle {arguments.action} takes no schedule", "gatewayfs throttle schedule does")
    if arguments.file is not None and arguments.clear:
        raise UsageError("throttle schedule: FILE and --clear contradict each other", "give one of them")
    return arguments


def _limit(text: str) -> tuple[int | None]:
    """In a tuple, so that "off" differs from an option that was not given."""
    try:
        return (parse_rate_limit(text),)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def read_schedule(file: str) -> Any:
    """The JSON in that file, or on standard input for "-". The gateway checks it. Raises UserError."""
    try:
        return json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: is not JSON: {error}") from error


def show(result: Mapping[str, Any], *, schedule_only: bool) -> None:
    """One line for each direction, one for each interval."""
    out = console()
    for name in DIRECTIONS if not schedule_only else ():
        state = result.get(name) or {}
        source = f" ({state.get('limit_from')})" if state.get("limit_from") else ""
        limit = limit_text(state.get("limit_bytes_per_s"))
        out.print(f"[dim]{name:8}[/dim]  {limit}{source}, now {human_rate(state.get('rate_bytes_per_s') or 0)}")
    intervals = result.get("intervals") or []
    out.print(f"[dim]schedule[/dim]  {result.get('time_zone')}" if intervals else "[dim]schedule[/dim]  none")
    for interval in intervals:
        out.print(f"  {escape(interval_text(interval))}")
    if result.get("interval"):
        out.print(f"[dim]in effect[/dim] {escape(str(result['interval']))}")


def limit_text(limit_bytes_per_s: int | None) -> str:
    """40 Mbit/s are sold, 5 MB/s are seen: both."""
    if limit_bytes_per_s is None:
        return "no limit"
    rate = format_rate(limit_bytes_per_s)
    return human_rate(limit_bytes_per_s) if rate.isdigit() else f"{rate}/s ({human_rate(limit_bytes_per_s)})"


def interval_text(interval: Mapping[str, Any]) -> str:
    """Mon,Tue 08:00-17:59  upload 40Mbit/s (5.0 MB/s)"""
    days = ",".join(DAYS[day] for day in sorted(interval["DaysOfWeek"]))
    times = "{StartHourOfDay:02}:{StartMinuteOfHour:02}-{EndHourOfDay:02}:{EndMinuteOfHour:02}".format(**interval)
    limits = {name: interval.get(f"Average{name.capitalize()}RateLimitInBitsPerSec") for name in DIRECTIONS}
    told = ", ".join(f"{name} {limit_text(bits // 8)}" for name, bits in limits.items() if bits is not None)
    return f"{days} {times}  {told}"

"""``gatewayfs queue``: what waits for upload and why, and holding it back, letting it go, trying again."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry, relative_path
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target
from gatewayfs.cli.render import human_bytes, human_duration, human_time, plural
from gatewayfs.control import calls
from gatewayfs.control.registry import Registration

LIMIT = 100
PAGE = 5000
"""Entries asked for at a time: no answer is long, and each of a million is looked at a few hundred times at most."""

STORY = """\
The queue of what is not in the bucket yet. A PATH is a full path into the mount or one relative to it; a directory
stands for everything below it.

  ls        what is queued, the oldest first: its state and why it waits
  hold      keep what changes at and below PATH (or in the whole share) here until it is released; what is being
            uploaded at this moment is finished. Also after restarts
  release   end the holds at and below PATH (or all of them)
  retry     try what is parked or backs off again now
  now       upload what is at and below PATH now, without waiting for it to settle"""

CHANGING = {
    "hold": calls.QUEUE_HOLD,
    "release": calls.QUEUE_RELEASE,
    "retry": calls.QUEUE_RETRY,
    "now": calls.QUEUE_NOW,
}


def run(argv: Sequence[str]) -> int:
    arguments = _parsed(argv)
    gateway = registry().find(arguments.target)
    paths = [relative_path(path, gateway.mountpoint) for path in arguments.paths]
    if arguments.action == "ls":
        path = paths[0] if paths else ""
        (_print_json if arguments.json else _print_lines)(_entries(gateway, path, arguments.limit), arguments.limit)
        return exitcodes.OK
    result = call(gateway, CHANGING[arguments.action], {"paths": paths})
    if arguments.json:
        print(json.dumps(result))
    elif arguments.action in ("hold", "release"):
        print("\n".join(_hold_lines(result)))
    else:
        what = "being tried again" if arguments.action == "retry" else "uploaded now"
        print(f"{plural(result.get('entries') or 0, 'entry')} {what}")
    return exitcodes.OK


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    actions = ("ls", *CHANGING)
    parser = Parser(
        "queue",
        STORY,
        """gatewayfs queue ls /mnt/photos
        gatewayfs queue ls photos 2026/raw --limit 0 --json | jq -r 'select(.state == "parked") | .path'
        gatewayfs queue hold photos incoming && review && gatewayfs queue release photos incoming""",
    )
    parser.add_argument("action", metavar="|".join(actions), choices=actions)
    add_target(parser)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="a path in the mount")
    parser.add_argument(
        "--limit", metavar="N", type=_limit, default=None, help=f"ls: show at most N entries ({LIMIT}), 0: all"
    )
    add_json(parser)
    arguments = parser.parse(argv)
    if arguments.action == "ls" and len(arguments.paths) > 1:
        raise UsageError("queue ls takes one PATH", "name a directory above them")
    if arguments.action == "now" and not arguments.paths:
        raise UsageError("queue now: which PATH?", "gatewayfs drain uploads everything")
    if arguments.action != "ls" and arguments.limit is not None:
        raise UsageError(f"queue {arguments.action} takes no --limit", "queue ls does")
    arguments.limit = LIMIT if arguments.limit is None else arguments.limit
    return arguments


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: write a number, 0 for all")
    return int(text)


def _entries(gateway: Registration, path: str, limit: int) -> Iterator[Mapping[str, Any]]:
    """Page by page; one more than ``limit``, if there is one."""
    after: Any = None
    left = limit + 1 if limit else sys.maxsize
    while left > 0:
        result = call(gateway, calls.QUEUE, {"path": path, "after": after, "limit": min(PAGE, left)})
        entries = result.get("entries") or []
        yield from entries
        left -= len(entries)
        after = result.get("after")
        if after is None:
            return


def _print_json(entries: Iterator[Mapping[str, Any]], limit: int) -> None:
    """One object per line, so that a million of them need no memory on either side."""
    for entry in islice(entries, limit or None):
        print(json.dumps(entry))


def _print_lines(entries: Iterator[Mapping[str, Any]], limit: int) -> None:
    shown = 0
    for entry in entries:
        if limit and shown == limit:
            print("and more; --limit 0 shows all")
            return
        print(entry_line(entry))
        shown += 1
    if not shown:
        print("nothing is queued")


def entry_line(entry: Mapping[str, Any]) -> str:
    """ "     3.0 MiB  2m 5s   parked       upload      a/b.txt: AccessDenied, tried again in 4m 1s"."""
    size, sent = entry.get("size_bytes") or 0, entry.get("sent_bytes") or 0
    reason = str(entry.get("reason") or "")
    if sent:
        reason += f", {human_bytes(sent)} of {human_bytes(size)}"
    if entry.get("retry_s"):
        reason += f", looked at in {human_duration(entry['retry_s'])}"
    age = human_duration(round(entry.get("age_s") or 0))
    figures = f"{human_bytes(size):>10}  {age:>8}  {entry.get('state', ''):<11}  {entry.get('work', ''):<10}"
    return f"{figures}  {entry.get('path', '')}: {reason}"


def _hold_lines(result: Mapping[str, Any]) -> list[str]:
    holds = result.get("holds") or []
    if not holds:
        return ["nothing is held"]
    return [f"held since {human_time(hold['since_ns'])}: {hold.get('path') or 'the whole share'}" for hold in holds]

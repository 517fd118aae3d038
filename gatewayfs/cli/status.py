"""``gatewayfs status``: what a gateway is doing, and what is wrong with it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.markup import escape

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, add_json
from gatewayfs.cli.render import console, lines_of
from gatewayfs.control import calls

STATUS_S_MAX = 30.0
ALWAYS_SHOWN = frozenset(("entries", "dirty_bytes"))
"""Zero is the good news people look for: nothing is queued."""

STORY = """\
Show a gateway's cache, its queue with the oldest entry's age and the reasons why anything waits, transfer rates, the
last errors, and what the store honours. Problems come first, each with its cure.

Without DIR: which gateways run on this host."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "status",
        STORY,
        """gatewayfs status
        gatewayfs status /mnt/photos
        gatewayfs status photos --json | jq .upload.entries_bytes""",
    )
    parser.add_argument("target", metavar="DIR", nargs="?", help="mount directory, or the share's name")
    parser.add_argument("--all", action="store_true", help="show figures that are zero or empty, too")
    add_json(parser)
    arguments = parser.parse(argv)
    if arguments.target is None:
        return show_gateways(as_json=arguments.json)
    result = call(registry().find(arguments.target), calls.STATUS, timeout_s=STATUS_S_MAX)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result, everything=arguments.all)
    return exitcodes.OK


def show(result: Mapping[str, Any], *, everything: bool = False) -> None:
    """Problems first, then every section the gateway sent; figures that say nothing only when asked for."""
    out = console()
    problems = result.get("problems") or []
    share = result.get("share") or {}
    where = f"{share.get('bucket', '?')}/{share.get('prefix', '')}".rstrip("/")
    verdict = "[green]no problems[/green]" if not problems else f"[yellow]{len(problems)} to look at[/yellow]"
    title = f"{share.get('name', 'gateway')}: {where} on {share.get('mountpoint', '?')}"
    out.print(f"[bold]{escape(title)}[/bold]  {verdict}")
    for problem in problems:
        out.print(f"  [yellow]![/yellow] {escape(str(problem))}")
    for name, section in result.items():
        if isinstance(section, Mapping) and section:
            lines = list(lines_of(section if everything else telling(section)))
            out.print(f"[bold]{escape(name)}[/bold]" + ("" if lines else "  [dim]all zero[/dim]"))
            for line in lines:
                out.print(line)


def telling(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section without what is zero or empty, all the way down. "no" stays: it is an answer."""
    kept: dict[str, Any] = {}
    for name, value in section.items():
        shown = telling(value) if isinstance(value, Mapping) else value
        if shown or shown is False or name in ALWAYS_SHOWN:
            kept[name] = shown
    return kept


def show_gateways(*, as_json: bool) -> int:
    """Every gateway noted on this host, running or not."""
    entries = registry().entries()
    if as_json:
        print(json.dumps([msgspec.to_builtins(entry) | {"running": entry.running} for entry in entries]))
        return exitcodes.OK
    out = console()
    if not entries:
        out.print("no gateway runs here; gatewayfs mount BUCKET DIR starts one")
    for entry in entries:
        state = f"pid {entry.pid}, since {entry.started}" if entry.running else "[red]not running (crashed?)[/red]"
        where = escape(f"{entry.bucket}/{entry.prefix}".rstrip("/"))
        out.print(f"{escape(entry.share)}: {where} on {escape(entry.mountpoint)}  {state}")
    return exitcodes.OK

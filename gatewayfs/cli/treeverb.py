"""What ``warm`` and ``evict`` have in common: paths in, a bar while it runs, a report of what could not be done."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry, relative_path
from gatewayfs.cli.parsing import Parser, add_json, add_target
from gatewayfs.cli.render import console, human_bytes, one_line, plural

LEFT_LINES_MAX = 20


def run_tree_verb(argv: Sequence[str], verb: str, story: str, examples: str, doing: str, done: str) -> int:
    """Parse, call, show.

    Args:
        verb: also the name of the control call.
        doing, done: for people: "fetching", "fetched".
    """
    parser = Parser(verb, story, examples)
    add_target(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path in the mount; a directory is all below it")
    add_json(parser)
    arguments = parser.parse(argv)
    gateway = registry().find(arguments.target)
    paths = [relative_path(path, gateway.mountpoint) for path in arguments.paths]
    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        # Nobody knows how many there are before the walk ends: the bar only shows that it moves.
        task = bar.add_task(doing, total=None)

        def show(frame: Mapping[str, Any]) -> None:
            bar.update(task, description=f"{doing}: {_amount(frame)}")

        result = call(gateway, verb, {"paths": paths}, progress=show)
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(result, done)
    return exitcodes.WORK_LEFT if result.get("files_left") else exitcodes.OK


def _amount(result: Mapping[str, Any]) -> str:
    return f"{plural(int(result.get('files') or 0), 'file')} ({human_bytes(int(result.get('bytes') or 0))})"


def _show(result: Mapping[str, Any], done: str) -> None:
    print(f"{done} {_amount(result)}")
    left, listed = int(result.get("files_left") or 0), list(result.get("left") or ())
    if not left:
        return
    print(f"{plural(left, 'file')} not {done}:")
    for item in listed[:LEFT_LINES_MAX]:
        print(f"  {one_line(item)}")
    if left > min(len(listed), LEFT_LINES_MAX):
        print(f"  and {left - min(len(listed), LEFT_LINES_MAX):,} more")

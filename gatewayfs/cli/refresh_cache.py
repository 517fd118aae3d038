"""``gatewayfs refresh-cache``: look again what is in the bucket."""

import json
from collections.abc import Sequence

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry, relative_path
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target
from gatewayfs.cli.render import console, lines_of
from gatewayfs.control import calls

FOLDERS_MAX = 50
"""As AWS Storage Gateway's RefreshCache."""

STORY = """\
List folders of the bucket again and show what other programs added, changed or removed there. Only names and attributes
are fetched; cached bytes of unchanged objects stay, and local changes that are not uploaded yet are never lost."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "refresh-cache",
        STORY,
        """gatewayfs refresh-cache /mnt/photos
        gatewayfs refresh-cache --folder 2024 --folder 2025/05 --no-recursive photos""",
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
    add_json(parser)
    arguments = parser.parse(argv)
    gateway = registry().find(arguments.target)
    if len(arguments.folder) > FOLDERS_MAX:
        raise UsageError(f"{len(arguments.folder)} folders are too many", f"name at most {FOLDERS_MAX}")
    folders = [relative_path(folder, gateway.mountpoint) for folder in arguments.folder or ["/"]]
    result = call(gateway, calls.REFRESH, {"folders": folders, "recursive": not arguments.no_recursive})
    if arguments.json:
        print(json.dumps(result))
    else:
        for line in lines_of(result, depth=0):
            console().print(line)
    return exitcodes.OK

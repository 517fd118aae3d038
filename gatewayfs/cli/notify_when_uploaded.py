"""``gatewayfs notify-when-uploaded``: have an event sent when everything written until now is in the bucket."""

import json
from collections.abc import Sequence
from typing import Any

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target, positive_seconds
from gatewayfs.control import calls

STORY = """\
Ask for a "Storage Gateway File Upload Event" when everything written before this call is in the bucket, as AWS Storage
Gateway's NotifyWhenUploaded does. Prints the notification id that the event will carry and returns at once; the request
outlives a restart of the gateway. Nothing is hurried (drain does that). With --wait: return when it has happened (exit
status 0), or when the time is up (exit status 5; the request stays open)."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "notify-when-uploaded",
        STORY,
        """gatewayfs notify-when-uploaded /mnt/photos
        gatewayfs notify-when-uploaded --wait --timeout 1h photos""",
    )
    add_target(parser)
    parser.add_argument("--wait", action="store_true", help="return when everything is in the bucket")
    parser.add_argument(
        "--timeout", metavar="TIME", type=positive_seconds, help='with --wait: wait at most this long, like "90s"'
    )
    add_json(parser)
    arguments = parser.parse(argv)
    if arguments.timeout is not None and not arguments.wait:
        raise UsageError("--timeout needs --wait", "without --wait nothing is waited for")
    asked: dict[str, Any] = {"wait": arguments.wait}
    if arguments.timeout is not None:
        asked["timeout_s"] = arguments.timeout
    # The gateway keeps the time; ours is only for one that does not.
    patience_s = None if arguments.timeout is None else arguments.timeout + 30
    result = call(registry().find(arguments.target), calls.NOTIFY, asked, timeout_s=patience_s)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(result.get("notification_id"))
        if arguments.wait:
            completed = result.get("completed")
            print(f"everything is in the bucket since {completed}" if completed else "not everything is in the bucket")
    return exitcodes.WORK_LEFT if arguments.wait and not result.get("completed") else exitcodes.OK

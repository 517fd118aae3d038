"""``gatewayfs look-again``: look at single objects that are said to have changed."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from gatewayfs.cli import exitcodes
from gatewayfs.cli.gateway import call, registry, relative_path
from gatewayfs.cli.parsing import Parser, UsageError, add_json, add_target
from gatewayfs.cli.render import console, lines_of
from gatewayfs.control import calls

INPUT_BYTES_MAX = 16 << 20
BATCH_BYTES = 100 << 10
"""Of texts in one call; a control message takes 256 KiB, and quotes may double a text."""

STORY = """\
Look at objects that other programs put, changed or removed, and show what the bucket has there now: one request each.
Which ones is said by paths, or by notifications on standard input: those of S3, MinIO and Ceph, wrapped by SNS or
EventBridge or not, and the events of another gateway; one JSON object, or one in each line."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "look-again",
        STORY,
        """gatewayfs look-again /mnt/photos --path 2024/a.jpg --path 2024/b.jpg
        gatewayfs look-again photos < notification.json""",
    )
    add_target(parser)
    parser.add_argument(
        "--path", metavar="PATH", action="append", default=[], help="a path in the mount (may be repeated)"
    )
    add_json(parser)
    arguments = parser.parse(argv)
    gateway = registry().find(arguments.target)
    if arguments.path:
        name, texts = "paths", [relative_path(path, gateway.mountpoint) for path in arguments.path]
    else:
        name, texts = "messages", messages(sys.stdin.buffer.read(INPUT_BYTES_MAX + 1))
    counted: Counter[str] = Counter()
    failures: list[str] = []
    for batch in batches(texts):
        result = call(gateway, calls.LOOK, {name: batch})
        failures += result.pop("failures", [])
        counted.update(result)
    if arguments.json:
        print(json.dumps({**counted, "failures": failures}))
    else:
        for line in lines_of({**counted, "failures": failures}, depth=0):
            console().print(line)
    return exitcodes.FAILURE if counted["failed"] or counted["bad"] else exitcodes.OK


def messages(data: bytes) -> list[str]:
    """One JSON document, however many lines it has, or one per line. Raises UsageError."""
    if len(data) > INPUT_BYTES_MAX:
        raise UsageError("standard input is too long", f"give it at most {INPUT_BYTES_MAX >> 20} MiB at a time")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("standard input is no UTF-8 text", "give it notifications, or name paths") from None
    if not text.strip():
        raise UsageError("standard input is empty", "give it notifications, or name paths with --path")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return [line for line in text.splitlines() if line.strip()]
    return [text]


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """As many as fit into one call, in order. Raises UsageError for one that never does."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(json.dumps(text))
        if length > 2 * BATCH_BYTES:
            raise UsageError("a notification is too long", "give it one JSON object, or one in each line")
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    yield batch

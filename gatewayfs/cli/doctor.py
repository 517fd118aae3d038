"""``gatewayfs doctor``: is everything here that a gateway needs? Each line ok, warning or fail, with the cure."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio
from rich.console import Console
from rich.markup import escape

from gatewayfs.cli import exitcodes
from gatewayfs.cli.bucketpath import add_share_options, load_share
from gatewayfs.cli.doctor_events import event_findings
from gatewayfs.cli.doctor_host import host_findings
from gatewayfs.cli.findings import Finding, Verdict
from gatewayfs.cli.parsing import Parser, UsageError, add_json
from gatewayfs.cli.render import console
from gatewayfs.config import ShareConfig

CACHE_ROOT = Path("/var/cache/gatewayfs")
COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAIL: "red"}

STORY = """\
Look at this machine (kernel, FUSE, permissions), at the cache disk (kind, room, fsync) and, when a bucket is named,
at the bucket: credentials and where they were found, address, clock, access, and what the store honours. The last
needs two scratch objects below the prefix, which are removed again; --read-only leaves it out.

The exit status is 0 when all is well, 6 when there are warnings only, 1 when something fails."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "doctor",
        STORY,
        """gatewayfs doctor
        gatewayfs doctor company-photos/site-a --cache-dir /srv/cache/photos
        gatewayfs doctor --config /etc/gatewayfs/photos.toml --json""",
    )
    parser.add_argument("bucket", metavar="BUCKET[/PREFIX]", nargs="?", help="the bucket to look at")
    add_share_options(parser)
    parser.add_argument("--read-only", action="store_true", help="write nothing to the bucket")
    add_json(parser)
    arguments = parser.parse(argv)
    if arguments.bucket is None and arguments.config is None:
        if arguments.set or arguments.endpoint_url:
            raise UsageError("--set and --endpoint-url are about a bucket", "name it: gatewayfs doctor BUCKET")
        config, cache_directory = None, Path(arguments.cache_dir or CACHE_ROOT).absolute()
    else:
        config = load_share(arguments, arguments.bucket, None)
        cache_directory = config.cache.directory
    out = None if arguments.json else console()
    findings = [_shown(out, finding) for finding in host_findings(cache_directory, config)]
    if config is not None:
        findings += [_shown(out, finding) for finding in event_findings(config.events)]
        findings += trio.run(_look_at_store, out, config, not (arguments.read_only or config.share.read_only))
    if arguments.json:
        print(json.dumps([_plain(finding) for finding in findings]))
    return exit_code(findings)


def exit_code(findings: Iterable[Finding]) -> int:
    """By the worst finding."""
    worst = max((finding.verdict for finding in findings), key=lambda verdict: verdict.rank)
    return {Verdict.OK: exitcodes.OK, Verdict.WARNING: exitcodes.FINDINGS, Verdict.FAIL: exitcodes.FAILURE}[worst]


async def _look_at_store(out: Console | None, config: ShareConfig, may_write: bool) -> list[Finding]:
    from gatewayfs.cli.doctor_store import store_findings  # loads boto3, which a look at the host does not need

    found = [_shown(out, finding) async for finding in store_findings(config, may_write=may_write)]
    if config.refresh.events is not None:
        from gatewayfs.cli.doctor_queue import queue_findings

        found += [_shown(out, finding) async for finding in queue_findings(config)]
    return found


def _shown(out: Console | None, finding: Finding) -> Finding:
    """Print it as soon as it is known: some checks take seconds."""
    if out is not None:
        colour = COLOURS[finding.verdict]
        out.print(f"[{colour}]{finding.verdict.value:7}[/{colour}]  {finding.subject:18}  {escape(finding.text)}")
        if finding.cure:
            out.print(f"{'':9}{'':20}[dim]cure:[/dim] {escape(finding.cure)}")
    return finding


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "verdict": finding.verdict.value,
        "subject": finding.subject,
        "text": finding.text,
        "cure": finding.cure,
    }
